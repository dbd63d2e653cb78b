"""`circuits.samples`: where a node is active in pretraining text and on a task's prompts."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

import numpy as np
import torch

from circuit_protocol.circuit_replies import NodeSampled, SampleBand, SampleWindow
from circuit_protocol.circuit_requests import NodeSamples
from circuit_protocol.circuits import Circuit, circuit_id
from circuit_protocol.errors import InvalidRequest
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.samples import (
    IN_THE_MODEL,
    QUANTILES,
    Attention,
    Band,
    Surroundings,
    Text,
    activations,
    bands,
    head_attention,
    in_circuit,
)
from circuitd.circuits.value import mask_of
from circuitd.engine.weights import Weights
from circuitd.store.pretraining_sample import read_pretraining_sample
from circuitd.worker.context import Context
from circuitd.worker.grounds import stored_circuit, task_prompts
from circuitd.worker.host import SEEN_NBYTES_MAX
from circuitd.worker.registry import Steps

#: Rows of pretraining text in one pass: some tens of milliseconds.
ROWS_PER_PASS: Final = 4


def run(request: NodeSamples, context: Context) -> Steps:
    """Windows around a node's extreme values, its quantiles, its values on the task."""
    weights = context.model.weights
    node_space(weights.config).nodes(request.site, [request.channel])  # raises if it is none
    surroundings, task = IN_THE_MODEL, request.task
    circuit: Circuit | None = None
    if request.circuit is not None:
        circuit = stored_circuit(context, request.circuit).circuit
        surroundings = surroundings_of(context, circuit)
        task = task or circuit.task
    text = pretraining_text(context)
    wanted = {request.site: (request.channel,)}
    values = yield from _over_text(context, request, text, circuit, surroundings)
    prompts: ScoredPrompts | None = None
    on_task = None
    if task is not None:
        prompts = task_prompts(context, task, "train", request.n_pairs, request.seed)
        prompt_text = Text(prompts.tokens.cpu(), prompts.lengths.cpu())
        found = yield from activations(
            weights,
            prompt_text,
            wanted,
            surroundings,
            rows_per_step=len(prompts),
            cancelled=context.stop,
        )
        on_task = found[request.site][:, :, 0]
    attention = None
    if prompts is not None and request.n_attention_pairs:
        attention = _attention(context, request, prompts, surroundings)
        yield None
    tokens = text.tokens.numpy()
    chosen = bands(
        tokens, values, n_windows=request.n_windows, context=request.context, seed=request.seed
    )
    with context.parcel() as parcel:
        yield parcel.seal(
            NodeSampled(
                id=request.id,
                site=request.site,
                channel=request.channel,
                mean=float(values.mean(dtype=np.float64)),
                quantiles=tuple(np.quantile(values, QUANTILES).tolist()),
                bands=tuple(_on_the_wire(chosen)),
                task_tokens=None if prompts is None else parcel.put(prompts.tokens.int()),
                task_lengths=None if prompts is None else parcel.put(prompts.lengths.int()),
                task_activations=None if on_task is None else parcel.put(on_task),
                head=None if attention is None else attention.head,
                attention=None if attention is None else parcel.put(attention.pattern),
                bias=_bias(weights, request),
            )
        )


def _bias(weights: Weights, request: NodeSamples) -> float | None:
    layer, _, kind = request.site.partition(".")
    bias = weights.bias_at(int(layer), kind) if layer.isdigit() else None
    return None if bias is None else float(bias[request.channel])


def _over_text(
    context: Context,
    request: NodeSamples,
    text: Text,
    circuit: Circuit | None,
    surroundings: Surroundings,
) -> Generator[None, None, np.ndarray]:
    """The node's values [B, T] over `text`; those of the circuit's other nodes are kept along."""
    seen = context.host.seen
    written = hash(text.tokens.numpy().tobytes())  # the file beside the model may be another now
    key = (context.model.key, written, None if circuit is None else circuit_id(circuit))
    values = seen.get((*key, request.site, request.channel))
    if values is not None:
        return values
    wanted = _seen_along(request, circuit, text.tokens.numel() * np.dtype(np.float32).itemsize)
    found = yield from activations(
        context.model.weights,
        text,
        wanted,
        surroundings,
        rows_per_step=ROWS_PER_PASS,
        cancelled=context.stop,
    )
    for site, channels in wanted.items():
        for i, channel in enumerate(channels):
            seen.keep((*key, site, channel), np.ascontiguousarray(found[site][:, :, i]))
    return found[request.site][:, :, wanted[request.site].index(request.channel)]


def _seen_along(
    request: NodeSamples, circuit: Circuit | None, nbytes_each: int
) -> dict[str, tuple[int, ...]]:
    """What to record in the pass for one node: it, and the nodes of its circuit that the pass
    meets anyway, those of earlier layers and its own, if all of them can be remembered.
    """
    alone = {request.site: (request.channel,)}
    if circuit is None:
        return alone
    layer = _layer_of(request.site)
    wanted = {
        part.site: part.channels or () for part in circuit.nodes if _layer_of(part.site) <= layer
    }
    n_nodes = sum(map(len, wanted.values()))
    is_kept = request.channel in wanted.get(request.site, ())
    return wanted if is_kept and n_nodes * nbytes_each <= SEEN_NBYTES_MAX else alone


def _layer_of(site: str) -> float:
    first = site.partition(".")[0]
    return int(first) if first.isdecimal() else float("inf")


def _attention(
    context: Context, request: NodeSamples, prompts: ScoredPrompts, surroundings: Surroundings
) -> Attention | None:
    """The pattern of the node's head on the first pairs; None for a node that belongs to none."""
    pairs = torch.arange(min(request.n_attention_pairs, len(prompts) // 2))
    few = prompts.pairs(pairs)
    return head_attention(
        context.model.weights,
        Text(few.tokens.cpu(), few.lengths.cpu()),
        request.site,
        request.channel,
        surroundings,
        cancelled=context.stop,
    )


def surroundings_of(context: Context, circuit: Circuit) -> Surroundings:
    """What leaves of the model only `circuit`, on any text. Raises InvalidRequest if none can."""
    if circuit.ablation == "resample":
        raise InvalidRequest(
            "other text has nothing to resample from",
            asked=f"the samples of a node in a resampled circuit of {circuit.task}",
            hint="Ask for the node in the whole model: leave `circuit` out",
        )
    config, weights = context.model.config, context.model.weights
    ablated = context.model.gated(circuit.ablation).ablated.to(weights.device, weights.dtype)
    return in_circuit(weights, mask_of(circuit, config), ablated)


def pretraining_text(context: Context) -> Text:
    """The model's sample of pretraining text. Raises NotFound if it comes without."""
    tokens = torch.from_numpy(read_pretraining_sample(context.model.directory))
    return Text(tokens, torch.full((len(tokens),), tokens.shape[1]))


def _on_the_wire(found: Iterator[Band]) -> Iterator[SampleBand]:
    for band in found:
        yield SampleBand(
            fraction=band.fraction,
            end=band.end,
            windows=tuple(
                SampleWindow(
                    tokens=tuple(window.tokens.tolist()),
                    activations=tuple(window.activations.tolist()),
                    position=window.position,
                )
                for window in band.windows
            ),
        )

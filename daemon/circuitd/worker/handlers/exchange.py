"""`circuits.import` and `circuits.export`: circuits from elsewhere, and published files of ours."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any, Final

import numpy as np
import torch
from msgspec.structs import replace

from circuit_protocol.circuit_replies import CircuitExported, CircuitShown
from circuit_protocol.circuit_requests import ExportCircuit, ImportCircuit
from circuit_protocol.circuits import Circuit, CircuitDetails, EdgeGroup
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.limits import check_tensor
from circuit_protocol.messages import Edge
from circuitd.circuits.nodes import node_space
from circuitd.circuits.samples import IN_THE_MODEL, Text, activations, bands
from circuitd.circuits.value import check_model, edges_in, edges_of, kept_nodes, n_edges, proper
from circuitd.store.viz_data import Bands, Excerpt, write_viz_data
from circuitd.store.viz_reader import MAX_NBYTES, read_viz_data
from circuitd.worker.context import Context
from circuitd.worker.grounds import measured, stored_circuit, task_prompts
from circuitd.worker.handlers.circuits import part_deltas
from circuitd.worker.handlers.samples import ROWS_PER_PASS, pretraining_text, surroundings_of
from circuitd.worker.output import Output
from circuitd.worker.published import Opened, opened, published
from circuitd.worker.registry import Steps

_FILE_NAME: Final = "viz_data.pt"
#: As many pairs as the deltas of an exported circuit are measured on, if they are not yet.
_N_DELTA_PAIRS: Final = 32
_N_WINDOWS: Final = 5
_CONTEXT: Final = 50
#: Nodes whose values over the pretraining text are held at a time: 0.25 MB each of 65,536 tokens.
_N_NODES_AT_ONCE: Final = 512


def import_(request: ImportCircuit, context: Context) -> Steps:
    """Check a circuit whole, measure it where it was not, and store it."""
    weights, model = context.model.weights, context.model
    if (request.circuit is None) == (request.viz_data is None):
        raise InvalidRequest("an import is either a `circuit` or `viz_data`")
    details: CircuitDetails | None = None
    if request.circuit is not None:
        if request.task is not None and request.task != request.circuit.task:
            raise InvalidRequest(
                "the circuit is for another task", asked=request.task, found=request.circuit.task
            )
        check_model(request.circuit, model.model_hash, request.model)
        circuit = replace(request.circuit, model=request.model)
        from_file = None
    else:
        from_file = _opened(request, context)
        circuit, details = from_file.circuit, from_file.details
    circuit = proper(circuit, weights.config)
    groups = edges_of(weights, kept_nodes(circuit, weights.config), circuit.cut_edges)
    yield None
    if from_file is not None or not circuit.measured.n_pairs:
        circuit = yield from measured(context, circuit)
    else:  # its own numbers are believed, its counts are not
        k = int(kept_nodes(circuit, weights.config).sum())
        counts = replace(circuit.measured, k=k, n_edges=n_edges(groups))
        circuit = replace(circuit, measured=counts)
    if from_file is not None:
        groups = _with_deltas(groups, from_file.edge_deltas)
        found = replace(circuit.found, created_at_s=time.time())
        circuit = replace(circuit, found=found)
    if request.note:
        note = "; ".join(text for text in (request.note, circuit.found.note) if text)
        circuit = replace(circuit, found=replace(circuit.found, note=note))
    details = replace(details or CircuitDetails(), edges=groups)
    summary = context.host.circuits.save(circuit, request.sweep, details=details)
    yield context.output(
        CircuitShown(id=request.id, summary=summary, circuit=circuit, details=details)
    )


def export(request: ExportCircuit, context: Context) -> Steps:
    """The published file, with samples of every node."""
    stored = stored_circuit(context, request.circuit)
    circuit, details = stored.circuit, stored.details
    if details is None or not _is_complete(details):
        curve = () if details is None else details.curve
        details = yield from part_deltas(context, circuit, _N_DELTA_PAIRS)
        details = replace(details, curve=curve)
    samples = yield from _samples(context, circuit, request.n_task_pairs)
    data = write_viz_data(published(circuit, details, context.model.config, **samples))
    if len(data) > MAX_NBYTES:
        raise InvalidRequest(
            "the file would be too large to be opened again",
            asked=f"{len(data)} bytes",
            hint=f"The limit is {MAX_NBYTES} bytes: export fewer task pairs",
        )
    with context.parcel() as parcel:
        values = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        sent = parcel.deliver(values, "auto", f"viz_data.pt of {stored.summary.id}")
        yield parcel.seal(CircuitExported(id=request.id, data=sent, file_name=_FILE_NAME))


def _opened(request: ImportCircuit, context: Context) -> Opened:
    assert request.viz_data is not None  # the caller looked
    check_tensor(request.viz_data, "viz_data", shape=(None,), dtypes={"U8"})
    space = node_space(context.model.config)
    data = read_viz_data(
        context.array(request.viz_data).tobytes(), {site.name: site.width for site in space.sites}
    )
    return opened(
        data,
        config=context.model.config,
        model=request.model,
        model_hash=context.model.model_hash,
        task=request.task,
    )


def _with_deltas(
    groups: tuple[EdgeGroup, ...], deltas: Mapping[Edge, float]
) -> tuple[EdgeGroup, ...]:
    """The edges with a file's deltas, matrix by matrix where the file has all of them."""
    found: list[EdgeGroup] = []
    for group in groups:
        own = [deltas.get(edge) for edge in edges_in([group])]
        known = tuple(delta for delta in own if delta is not None)
        found.append(replace(group, deltas=known) if len(known) == len(own) else group)
    return tuple(found)


def _is_complete(details: CircuitDetails) -> bool:
    return bool(details.nodes) and all(len(g.deltas) == len(g.weights) for g in details.edges)


def _samples(
    context: Context, circuit: Circuit, n_pairs: int
) -> Generator[Output | None, None, dict[str, Any]]:
    """What a file holds of the nodes' values: in the circuit, or, resampled, in the whole model."""
    is_fixed = circuit.ablation != "resample"
    surroundings = surroundings_of(context, circuit) if is_fixed else IN_THE_MODEL
    weights, text = context.model.weights, pretraining_text(context)
    tokens = text.tokens.numpy()
    nodes = [(part.site, channel) for part in circuit.nodes for channel in part.channels or ()]
    samples: dict[str, dict[int, Bands]] = {part.site: {} for part in circuit.nodes}
    for start in range(0, len(nodes), _N_NODES_AT_ONCE):
        chosen = _by_site(nodes[start : start + _N_NODES_AT_ONCE])
        values = yield from activations(
            weights, text, chosen, surroundings, rows_per_step=ROWS_PER_PASS, cancelled=context.stop
        )
        for site, channels in chosen.items():
            for i, channel in enumerate(channels):
                samples[site][channel] = _bands(tokens, np.ascontiguousarray(values[site][..., i]))
                yield context.progress("samples", start, len(nodes), unit="nodes")
    seed = circuit.measured.data_seed
    prompts = task_prompts(context, circuit.task, "train", n_pairs, seed)
    on_task: dict[str, dict[int, np.ndarray]] = {}
    if nodes:
        found = yield from activations(
            weights,
            Text(prompts.tokens.cpu(), prompts.lengths.cpu()),
            _by_site(nodes),
            surroundings,
            rows_per_step=len(prompts),
            cancelled=context.stop,
        )
        for site, channels in _by_site(nodes).items():
            columns = {channel: found[site][..., i] for i, channel in enumerate(channels)}
            on_task[site] = {c: np.ascontiguousarray(values) for c, values in columns.items()}
    return {
        "samples": samples,
        "task_tokens": prompts.tokens.cpu().numpy(),
        "task_activations": on_task,
    }


def _by_site(nodes: list[tuple[str, int]]) -> dict[str, list[int]]:
    by_site: dict[str, list[int]] = {}
    for site, channel in nodes:
        by_site.setdefault(site, []).append(channel)
    return by_site


def _bands(tokens: np.ndarray, values: np.ndarray) -> Bands:
    """A node's bands as the file has them: (fraction, bottom, top)."""
    ends: dict[tuple[float, str], tuple[Excerpt, ...]] = {}
    for band in bands(tokens, values, n_windows=_N_WINDOWS, context=_CONTEXT, seed=0):
        ends[band.fraction, band.end] = tuple(
            Excerpt(
                np.ascontiguousarray(window.tokens),
                np.ascontiguousarray(window.activations),
                window.position,
            )
            for window in band.windows
        )
    fractions = dict.fromkeys(fraction for fraction, _ in ends)
    return tuple((f, ends[f, "bottom"], ends[f, "top"]) for f in fractions)

"""A circuit to and from the content of a published file, for one model.

The published form knows neither ablation kind (it is mean ablation), nor cut edges, nor
calibration, nor the model's hash: a file of ours carries these in its `prune_config`, under
`circuitd`, so that it comes back as the same circuit.

Attention patterns have no place in it: the published viewer draws attention from the queries and
keys among a file's task samples. `circuits.samples` and `circuits.attention` have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace

from circuit_protocol.circuits import (
    Calibration,
    Circuit,
    CircuitDetails,
    EdgeGroup,
    LayerDelta,
    Measured,
    NodeDeltas,
    Provenance,
    PruneStep,
)
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.messages import AblationKind, Edge, Name
from circuitd.circuits.nodes import node_space
from circuitd.circuits.value import check_model, node_set
from circuitd.engine.config import GPTConfig, parse_config
from circuitd.engine.errors import ConfigError
from circuitd.store.viz_data import Pairs, VizData

_OURS: Final = "circuitd"
#: The published curve has a point every so many steps: its iteration i is our step 8 (i + 1).
_STEPS_PER_POINT: Final = 8
#: Configuration fields that say what the network computes.
_TELLING: Final = (
    *("vocab_size", "n_layer", "n_head", "d_head", "d_model", "d_mlp", "d_pos_emb", "sink"),
    *("rms_norm", "activation_type", "residual_activation_type", "afrac", "tied_unembed"),
    *("enable_bigram_table", "bias", "ln_bias"),
)


class _Own(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of ours says beside the published."""

    model: Name
    model_hash: str
    task: Name
    ablation: AblationKind
    measured: Measured
    found: Provenance
    cut_edges: tuple[Edge, ...] = ()
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Opened:
    """A circuit out of a file, not yet measured here, and the deltas that the file has.

    `edge_deltas` are by edge; they are the file's own numbers, in nats.
    """

    circuit: Circuit
    details: CircuitDetails
    edge_deltas: Mapping[Edge, float]


def opened(
    data: VizData, *, config: GPTConfig, model: str, model_hash: str, task: str | None
) -> Opened:
    """The circuit of a file for this model.

    Raises InvalidRequest for a file of another network, and for one that names no task where none
    is given.
    """
    _check_config(data.config, config)
    own = _own(data.prune_config)
    task = task or (own.task if own is not None else None)
    if task is None:
        raise InvalidRequest(
            "a published file does not say which task its circuit is for", hint="Give `task`"
        )
    space = node_space(config)
    kept = np.zeros(space.n_nodes, dtype=bool)
    for site, channels in data.nodes.items():
        kept[space.nodes(site, channels)] = True
    rest = {key: value for key, value in data.prune_config.items() if key != _OURS}
    circuit = Circuit(
        model=model,
        model_hash=model_hash if own is None else own.model_hash,
        task=task,
        ablation="mean" if own is None else own.ablation,
        nodes=node_set(space, kept),
        cut_edges=() if own is None else own.cut_edges,
        calibration=None if own is None else own.calibration,
        measured=Measured(
            k=int(kept.sum()), n_edges=0, loss=0.0, accuracy=0.0, model_loss=0.0, model_accuracy=0.0
        )
        if own is None
        else replace(own.measured, model_held_out_loss=None),
        found=Provenance(
            origin="imported",
            imported_config=msgspec.json.encode(data.prune_config).decode()
            if rest or own
            else None,
            note=f"its file says: loss {data.loss:.4f}, unpruned {data.model_loss:.4f}",
        ),
    )
    check_model(circuit, model_hash, model)
    details = CircuitDetails(
        nodes=tuple(_node_deltas(data)), layers=tuple(_layer_deltas(data)), curve=_curve(data)
    )
    return Opened(circuit, details, _edge_deltas(data))


def published(
    circuit: Circuit,
    details: CircuitDetails,
    config: GPTConfig,
    **samples: Any,
) -> VizData:
    """The content of a file; `samples` are VizData's `samples`, `task_tokens` and
    `task_activations`.
    """
    loss = circuit.measured.loss
    space = node_space(config)
    found = circuit.found
    own = _Own(
        model=circuit.model,
        model_hash=circuit.model_hash,
        task=circuit.task,
        ablation=circuit.ablation,
        measured=circuit.measured,
        found=found,
        cut_edges=circuit.cut_edges,
        calibration=circuit.calibration,
    )
    settings = {} if found.settings is None else msgspec.to_builtins(found.settings)
    nodes = {part.site: part.channels or () for part in circuit.nodes}
    return VizData(
        nodes={site.name: nodes.get(site.name, ()) for site in space.sites},
        model_loss=circuit.measured.model_loss,
        loss=loss,
        node_losses={part.site: tuple(loss + d for d in part.deltas) for part in details.nodes},
        layer_losses={f"{part.layer}.{part.half}": loss + part.delta for part in details.layers},
        edge_deltas=tuple(_pairs(group, group.deltas) for group in details.edges),
        edge_weights=tuple(_pairs(group, group.weights) for group in details.edges),
        config=config.to_json(),
        curve=tuple(
            (point.step // _STEPS_PER_POINT - 1, point.loss)
            for point in details.curve
            if point.step > 0 and point.step % _STEPS_PER_POINT == 0
        ),
        n_nodes_in_model=space.n_nodes,
        prune_config={**settings, _OURS: msgspec.to_builtins(own)},
        **samples,
    )


def _check_config(given: Mapping[str, Any] | None, config: GPTConfig) -> None:
    if not given:
        return
    try:
        theirs, _ = parse_config(given)
    except ConfigError as error:
        raise InvalidRequest(
            "the file's model configuration is no network's", found=error.found
        ) from error
    differing = [name for name in _TELLING if getattr(theirs, name) != getattr(config, name)]
    if differing:
        raise InvalidRequest(
            "the file's circuit belongs to another network",
            asked=", ".join(f"{name}={getattr(theirs, name)}" for name in differing),
            found=", ".join(f"{name}={getattr(config, name)}" for name in differing),
            hint="Import it for the model it was found in",
        )


def _own(prune_config: Mapping[str, Any]) -> _Own | None:
    given = prune_config.get(_OURS)
    if given is None:
        return None
    try:
        return msgspec.convert(given, _Own)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            "what the file says about its circuit cannot be read", found=str(error)
        ) from error


def _node_deltas(data: VizData) -> list[NodeDeltas]:
    """Deltas by node, channels ascending, of the sites that have losses."""
    deltas: list[NodeDeltas] = []
    for site, losses in data.node_losses.items():
        by_channel = sorted(zip(data.nodes[site], losses, strict=True)) if losses else []
        if by_channel:
            deltas.append(
                NodeDeltas(
                    site=site,
                    channels=tuple(channel for channel, _ in by_channel),
                    deltas=tuple(loss - data.loss for _, loss in by_channel),
                )
            )
    return deltas


def _layer_deltas(data: VizData) -> list[LayerDelta]:
    deltas: list[LayerDelta] = []
    for name, loss in data.layer_losses.items():
        layer, _, half = name.partition(".")
        n_nodes = sum(
            len(channels) for site, channels in data.nodes.items() if site.startswith(f"{name}.")
        )
        deltas.append(
            LayerDelta(
                layer=int(layer),
                half="attn" if half == "attn" else "mlp",
                n_nodes=n_nodes,
                delta=loss - data.loss,
            )
        )
    return sorted(deltas, key=lambda delta: (delta.layer, delta.half))


def _curve(data: VizData) -> tuple[PruneStep, ...]:
    # How many nodes there were at each point is not in the file.
    return tuple(
        PruneStep(step=_STEPS_PER_POINT * (iteration + 1), loss=loss, k=0)
        for iteration, loss in data.curve
    )


def _edge_deltas(data: VizData) -> dict[Edge, float]:
    return {
        Edge(source=p.source, source_channel=s, target=p.target, target_channel=t): float(
            p.values[i, j]
        )
        for p in data.edge_deltas
        for i, s in enumerate(p.source_channels)
        for j, t in enumerate(p.target_channels)
    }


def _pairs(group: EdgeGroup, values: tuple[float, ...]) -> Pairs:
    """One matrix's edges as rows of sources and columns of targets; 0 where there is no edge."""
    sources, targets = sorted(set(group.source_channels)), sorted(set(group.target_channels))
    matrix = np.zeros((len(sources), len(targets)), np.float32)
    if values:
        rows = [sources.index(s) for s in group.source_channels]
        matrix[rows, [targets.index(t) for t in group.target_channels]] = values
    return Pairs(group.source, group.target, tuple(sources), tuple(targets), matrix)

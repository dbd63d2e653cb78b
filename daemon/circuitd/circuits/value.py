"""Between a circuit as a value and what it means in a model: its mask, its edges, its nodes.

The value names nodes by site and channel; here they become the numbers of one model's node space,
after a check that the model is the one the circuit was found in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from msgspec.structs import replace

from circuit_protocol.circuits import Circuit, EdgeGroup
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import NodeSet, SiteChannels
from circuit_protocol.messages import Edge
from circuitd.circuits.ablate import CODES, EdgeCut, Mask
from circuitd.circuits.edges import edges_between
from circuitd.circuits.nodes import NodeSpace, node_space
from circuitd.engine.config import GPTConfig
from circuitd.engine.weights import Weights


def check_model(circuit: Circuit, model_hash: str, model: str) -> None:
    """Raise InvalidRequest unless `circuit` was found in the model with this hash."""
    if circuit.model_hash != model_hash:
        raise InvalidRequest(
            "this circuit belongs to another model, or to another state of this one",
            asked=f"a circuit of {circuit.model}, hash {circuit.model_hash}",
            found=f"{model}, hash {model_hash}",
            hint="Nodes mean nothing in other weights: find the circuit again",
        )


def node_set(space: NodeSpace, kept: np.ndarray) -> NodeSet:
    """The nodes `kept` (BOOL [n_nodes]) as a circuit names them: in site order, none empty."""
    parts = ((site.name, np.flatnonzero(kept[space.span(site.name)])) for site in space.sites)
    return tuple(
        SiteChannels(site=name, channels=tuple(channels.tolist()))
        for name, channels in parts
        if channels.size
    )


def proper(circuit: Circuit, config: GPTConfig) -> Circuit:
    """A circuit from elsewhere as we write it: sites in order, none empty, channels ascending.

    Raises InvalidRequest for a node or a cut named twice, UnknownSite and InterventionError for one
    that the model does not have.
    """
    space = node_space(config)
    kept = np.zeros(space.n_nodes, dtype=bool)
    for part in circuit.nodes:
        nodes = space.nodes(part.site, part.channels)
        if len(np.unique(nodes)) != len(nodes) or kept[nodes].any():
            raise InvalidRequest("a node is named twice", asked=f"channels of {part.site}")
        kept[nodes] = True
    if len(set(circuit.cut_edges)) != len(circuit.cut_edges):
        raise InvalidRequest("an edge is cut twice")
    cut_edges = in_order(circuit.cut_edges)
    return replace(circuit, nodes=node_set(space, kept), cut_edges=cut_edges)


def kept_nodes(circuit: Circuit, config: GPTConfig) -> np.ndarray:
    """BOOL [n_nodes], True for the circuit's. Raises UnknownSite or InterventionError for a node
    that the model does not have.
    """
    return selected_nodes(circuit.nodes, config)


def selected_nodes(nodes: NodeSet, config: GPTConfig) -> np.ndarray:
    """BOOL [n_nodes], True for the named nodes; sites may be selectors. Raises as above."""
    return node_space(config).mask((part.site, part.channels) for part in nodes)


def mask_of(circuit: Circuit, config: GPTConfig) -> Mask:
    """The mask that leaves the circuit and ablates the rest as the circuit says."""
    code = CODES[circuit.ablation]
    codes = np.where(kept_nodes(circuit, config), 0, code).astype(np.uint8)
    return Mask(codes, tuple(cut_of(edge, code) for edge in circuit.cut_edges))


def cut_of(edge: Edge, code: int) -> EdgeCut:
    """An edge as a sweep cuts it."""
    return EdgeCut(edge.source, edge.source_channel, edge.target, edge.target_channel, code)


def edges_of(
    weights: Weights, kept: np.ndarray, cut_edges: Iterable[Edge] = ()
) -> tuple[EdgeGroup, ...]:
    """The circuit's edges with their weights, matrix by matrix: those between `kept` nodes (BOOL
    [n_nodes]) that are not cut. Raises InvalidRequest for a cut where there is no such edge.
    """
    cut, found = frozenset(cut_edges), frozenset[Edge]()
    groups: list[EdgeGroup] = []
    for edges in edges_between(weights, kept):
        group = EdgeGroup(
            source=edges.source,
            target=edges.target,
            source_channels=tuple(edges.source_channels.tolist()),
            target_channels=tuple(edges.target_channels.tolist()),
            weights=tuple(edges.weights.tolist()),
        )
        if cut:
            found |= cut.intersection(edges_in([group]))
            group = _without(group, cut)
        if group.weights:
            groups.append(group)
    if cut != found:
        raise no_such_edge(cut - found)
    return tuple(groups)


def edges_in(groups: Iterable[EdgeGroup]) -> Iterator[Edge]:
    """The edges of `groups` one by one, in order."""
    for group in groups:
        for source, target in zip(group.source_channels, group.target_channels, strict=True):
            yield Edge(
                source=group.source,
                source_channel=source,
                target=group.target,
                target_channel=target,
            )


def n_edges(groups: Iterable[EdgeGroup]) -> int:
    """How many edges there are in all."""
    return sum(len(group.weights) for group in groups)


def in_order(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """Edges in the one order that a circuit keeps its cuts in, so that equal ones have one id."""
    return tuple(
        sorted(edges, key=lambda e: (e.source, e.target, e.source_channel, e.target_channel))
    )


def no_such_edge(edges: Iterable[Edge]) -> InvalidRequest:
    """The error for edges that the circuit does not have."""
    names = sorted(edge_name(edge) for edge in edges)
    return InvalidRequest(
        "the circuit has no such edge",
        asked=", ".join(names[:5]) + (", …" if len(names) > 5 else ""),
        hint="An edge is a nonzero weight between two kept nodes",
    )


def edge_name(edge: Edge) -> str:
    """An edge as a person reads it."""
    return f"{edge.source}[{edge.source_channel}] -> {edge.target}[{edge.target_channel}]"


def _without(group: EdgeGroup, cut: frozenset[Edge]) -> EdgeGroup:
    stays = [i for i, edge in enumerate(edges_in([group])) if edge not in cut]
    return replace(
        group,
        source_channels=tuple(group.source_channels[i] for i in stays),
        target_channels=tuple(group.target_channels[i] for i in stays),
        weights=tuple(group.weights[i] for i in stays),
    )

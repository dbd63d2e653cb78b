"""Circuits made from circuits: nodes and edges dropped and added, unions and intersections.

Which nodes and cuts the new circuit has; what it does is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from circuit_protocol.circuit_requests import CombineCircuits, EditCircuit
from circuit_protocol.circuits import Circuit
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import NodeSet, SiteChannels
from circuit_protocol.messages import Edge
from circuitd.circuits.nodes import node_space
from circuitd.circuits.value import (
    edges_in,
    edges_of,
    in_order,
    kept_nodes,
    no_such_edge,
    node_set,
    selected_nodes,
)
from circuitd.engine.weights import Weights


@dataclass(frozen=True)
class Parts:
    """What a circuit consists of: its nodes in site order, and the cut edges between them."""

    nodes: NodeSet
    cut_edges: tuple[Edge, ...]


def edited(weights: Weights, circuit: Circuit, request: EditCircuit) -> Parts:
    """The parts of `circuit` after the request's edit.

    A node added brings its edges to kept nodes along; a node dropped takes its cuts with it. An
    edge that is added is one that was cut. Raises InvalidRequest for a node or an edge to drop that
    the circuit does not have, for an edge to add that was not cut, and for an edit that changes
    nothing; UnknownSite and InterventionError for nodes that the model does not have.
    """
    space = node_space(weights.config)
    before = kept_nodes(circuit, weights.config)
    kept = before.copy()
    for part in request.drop:
        chosen = selected_nodes((part,), weights.config)
        if part.channels is not None and not before[chosen].all():
            raise _not_kept(part, node_set(space, chosen & ~before))
        kept[chosen] = False
    kept |= selected_nodes(request.add, weights.config)

    cut = set(circuit.cut_edges)
    if wrong := set(request.add_edges) - cut:
        raise InvalidRequest(
            "these edges were not cut",
            asked=str(no_such_edge(wrong).asked),
            hint="An edge between two kept nodes is in the circuit unless it was cut",
        )
    cut -= set(request.add_edges)
    cut = {edge for edge in cut if _joins(edge, kept, weights)}
    present = set(edges_in(edges_of(weights, kept, cut)))
    if wrong := set(request.drop_edges) - present:
        raise no_such_edge(wrong)
    cut |= set(request.drop_edges)
    if (kept == before).all() and cut == set(circuit.cut_edges):
        raise InvalidRequest("this edit changes nothing", hint="Name nodes or edges to drop or add")
    return Parts(node_set(space, kept), in_order(cut))


def combined(weights: Weights, circuits: Sequence[Circuit], request: CombineCircuits) -> Parts:
    """The union or intersection of circuits of one model, task and ablation.

    An edge is cut in the intersection if any of them cuts it, and in the union if every circuit
    that has both its nodes does. Raises InvalidRequest for circuits that cannot be combined.
    """
    first = circuits[0]
    for circuit in circuits[1:]:
        for what in ("model_hash", "task", "task_signature", "ablation"):
            ours, theirs = getattr(first, what), getattr(circuit, what)
            if ours != theirs:
                raise InvalidRequest(
                    f"circuits of different {what} cannot be combined",
                    asked=f"{ours} and {theirs}",
                )
    masks = [kept_nodes(circuit, weights.config) for circuit in circuits]
    cuts = [frozenset(circuit.cut_edges) for circuit in circuits]
    join: Callable[[np.ndarray, np.ndarray], np.ndarray]
    join = np.logical_or if request.how == "union" else np.logical_and
    kept = reduce(join, masks)
    cut = {edge for edge in frozenset().union(*cuts) if _joins(edge, kept, weights)}
    if request.how == "union":
        cut = {
            edge
            for edge in cut
            if all(
                edge in own
                for own, mask in zip(cuts, masks, strict=True)
                if _joins(edge, mask, weights)
            )
        }
    return Parts(node_set(node_space(weights.config), kept), in_order(cut))


def _joins(edge: Edge, kept: np.ndarray, weights: Weights) -> bool:
    """Whether both ends of `edge` are kept (BOOL [n_nodes])."""
    space = node_space(weights.config)
    ends = ((edge.source, edge.source_channel), (edge.target, edge.target_channel))
    return all(bool(kept[space.nodes(site, [channel])[0]]) for site, channel in ends)


def _not_kept(part: SiteChannels, missing: NodeSet) -> InvalidRequest:
    names = [f"{m.site}{list(m.channels or ())[:5]}" for m in missing]
    return InvalidRequest(
        "the circuit does not have these nodes",
        asked=", ".join(names[:5]),
        hint=f"Leave the channels out to drop all that it has of {part.site}",
    )

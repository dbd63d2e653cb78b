"""The edges of a circuit as a table, the strongest first."""

from collections.abc import Iterable
from dataclasses import dataclass

from circuit_client.graph import Graph, GraphEdge, Node


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """An edge and its ends."""

    index: int
    source: Node
    target: Node
    weight: float
    #: What cutting it alone adds to the circuit's loss, in nats; None: not measured.
    delta: float | None


def edge_rows(
    graph: Graph, *, of: Iterable[int] | None = None, edges_from: float = 0.0
) -> list[EdgeRow]:
    """Edges by what cutting them adds, then by weight; `of`: only those at these nodes."""
    ends = None if of is None else set(of)

    def is_wanted(e: GraphEdge) -> bool:
        at_ends = ends is None or e.source in ends or e.target in ends
        return at_ends and (e.delta is None or abs(e.delta) >= edges_from)

    found = [(i, e) for i, e in enumerate(graph.edges) if is_wanted(e)]
    found.sort(key=lambda pair: pair[1].strength, reverse=True)
    return [
        EdgeRow(i, graph.nodes[e.source], graph.nodes[e.target], e.weight, e.delta)
        for i, e in found
    ]

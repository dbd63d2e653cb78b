"""A part of a circuit's graph as a graph of its own: a half block, some nodes."""

from collections.abc import Iterable
from dataclasses import replace

from circuit_client.graph import Graph, place_of


def part_of(graph: Graph, nodes: Iterable[int], *, edges_from: float = 0.0) -> Graph:
    """The nodes with these indices, in their order, and the edges between them.

    Edges whose delta is smaller than `edges_from` (nats) are left out, if their deltas are known.
    """
    kept = sorted(set(nodes))
    at = {old: new for new, old in enumerate(kept)}
    edges = tuple(
        replace(e, source=at[e.source], target=at[e.target])
        for e in graph.edges
        if e.source in at and e.target in at and (e.delta is None or abs(e.delta) >= edges_from)
    )
    return Graph(tuple(graph.nodes[i] for i in kept), edges, graph.layer_deltas, graph.has_edges)


def in_half(graph: Graph, layer: int | None, half: str) -> list[int]:
    """Indices of the nodes of a half block; `layer` None: of what comes after the last layer."""
    found: list[int] = []
    for site, nodes in graph.by_site.items():
        place = place_of(site)
        if place.layer == layer and place.half == half:
            found += nodes
    return found

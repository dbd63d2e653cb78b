"""A whole circuit as a matrix: a row for each layer, a column for each site of a layer.

Where a node-link picture of hundreds of edges is a tangle, this shows where a circuit is at a
glance, whatever its size.
"""

from dataclasses import dataclass

from circuit_client.graph import KINDS, Graph, place_of


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """The kept nodes of one site."""

    site: str
    n_nodes: int
    #: The ablation delta of largest magnitude among them, in nats; None: not measured.
    strongest: float | None


@dataclass(frozen=True, slots=True)
class SiteMatrix:
    """`cells[row][column]` is None where a site keeps nothing. A last row holds what comes after
    the layers, in its first column.
    """

    layers: tuple[int | None, ...]
    kinds: tuple[str, ...]
    cells: tuple[tuple[MatrixCell | None, ...], ...]


def site_matrix(graph: Graph, *, n_layer: int | None = None) -> SiteMatrix:
    """The matrix of a circuit. With `n_layer` also layers of which nothing is kept have a row."""
    by_place: dict[tuple[int | None, str], MatrixCell] = {}
    for site, nodes in graph.by_site.items():
        place = place_of(site)
        deltas = [d for i in nodes if (d := graph.nodes[i].delta) is not None]
        cell = MatrixCell(site, len(nodes), max(deltas, key=abs, default=None))
        by_place[place.layer, place.kind if place.layer is not None else KINDS[0]] = cell
    kept = [layer for layer, _ in by_place if layer is not None]
    layers: list[int | None] = list(
        range(n_layer if n_layer is not None else max(kept, default=-1) + 1)
    )
    if any(layer is None for layer, _ in by_place):
        layers.append(None)
    cells = tuple(tuple(by_place.get((layer, kind)) for kind in KINDS) for layer in layers)
    return SiteMatrix(tuple(layers), KINDS, cells)

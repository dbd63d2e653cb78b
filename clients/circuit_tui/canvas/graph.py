"""A graph on a plane: what it consists of, as arrays, and how it is drawn into cells.

Pure: `draw_graph` and the hit tests know no widget. Edges come in ascending importance and nodes
are drawn over them; labels are written where there is room, the wanted ones first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from circuit_client.render.text_width import truncate, width
from circuit_tui.canvas.braille import DOTS_X, DOTS_Y, Braille
from circuit_tui.canvas.cells import Cells, Inks
from circuit_tui.canvas.viewport import Viewport

#: Columns of the longest label.
LABEL_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Caption:
    """Text that belongs to a place and not to a node: the name of a row or a column.

    With `sticky` it stays at the canvas' left edge however far one pans.
    """

    text: str
    x: float
    y: float
    style: Style = field(default_factory=Style.null)
    sticky: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """N nodes at `positions` [N, 2] and E edges between them (`edges` [E, 2], indices of nodes).

    `node_styles` and `edge_styles` are looked up by `node_ink` [N] and `edge_ink` [E], so that two
    thousand nodes of twenty colours have twenty styles. `marks` has a character for each node.
    """

    positions: NDArray[np.float64]
    marks: Sequence[str]
    labels: Sequence[str]
    node_ink: NDArray[np.intp]
    node_styles: Sequence[Style]
    edges: NDArray[np.intp] = field(default_factory=lambda: np.zeros((0, 2), np.intp))
    edge_ink: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    edge_styles: Sequence[Style] = ()
    thickness: NDArray[np.intp] | int = 1
    captions: Sequence[Caption] = ()
    #: Nodes whose labels are written first.
    label_order: Sequence[int] = ()

    @property
    def n_nodes(self) -> int:
        """How many nodes there are."""
        return len(self.positions)

    def segments(self, viewport: Viewport, numbers: NDArray[np.intp] | None = None) -> NDArray:
        """The edges (or those with these numbers) as segments [E, 4] in dots."""
        dots = viewport.dots(self.positions)
        edges = self.edges if numbers is None else self.edges[numbers]
        return np.hstack([dots[edges[:, 0]], dots[edges[:, 1]]]) if len(edges) else np.zeros((0, 4))

    def edges_of(self, node: int) -> NDArray[np.intp]:
        """Numbers of the edges that begin or end at a node."""
        if not len(self.edges):
            return np.zeros(0, np.intp)
        return np.flatnonzero((self.edges == node).any(axis=1))

    def neighbours(self, node: int) -> list[int]:
        """Nodes at the other ends of a node's edges, ascending."""
        ends = self.edges[self.edges_of(node)].ravel()
        return sorted(set(ends.tolist()) - {node})


EMPTY = Graph(np.zeros((0, 2)), (), (), np.zeros(0, np.intp), ())


def draw_edges(
    graph: Graph, viewport: Viewport, cells: Cells, inks: Inks, *, ascii_only: bool
) -> None:
    """All edges, the last ones on top."""
    raster = Braille(cells.width, cells.height, ascii_only=ascii_only)
    numbers = np.array([inks.number(style) for style in graph.edge_styles], np.uint16)
    if len(graph.edges):
        raster.lines(graph.segments(viewport), numbers[graph.edge_ink], graph.thickness)
    raster.onto(cells)


def draw_incident(
    graph: Graph,
    node: int,
    viewport: Viewport,
    cells: Cells,
    inks: Inks,
    style: Style | None,
    *,
    ascii_only: bool,
) -> None:
    """The edges of one node again, over all others; in `style`, or in their own and thicker."""
    numbers = graph.edges_of(node)
    if not len(numbers):
        return
    raster = Braille(cells.width, cells.height, ascii_only=ascii_only)
    colors = [
        inks.number(graph.edge_styles[i] if style is None else style)
        for i in graph.edge_ink[numbers].tolist()
    ]
    raster.lines(graph.segments(viewport, numbers), colors, 1 if style is not None else 2)
    raster.onto(cells)


def draw_nodes(graph: Graph, viewport: Viewport, cells: Cells, inks: Inks) -> NDArray[np.int32]:
    """The marks of all nodes within the canvas, the last ones on top; cells [N, 2] of all."""
    at = viewport.cells(graph.positions)
    inside = _inside(at, cells)
    numbers = np.array([inks.number(style) for style in graph.node_styles], np.uint16)
    marks = np.array([ord(mark) for mark in graph.marks], np.uint32)
    if inside.any():
        x, y = at[inside].T
        cells.chars[y, x] = marks[inside]
        cells.inks[y, x] = numbers[graph.node_ink[inside]]
    return at


def draw_labels(
    graph: Graph,
    at: NDArray[np.int32],
    cells: Cells,
    inks: Inks,
    wanted: Iterable[int],
    *,
    reserved: Iterable[tuple[int, int, int]] = (),
) -> None:
    """Labels beside their nodes, to the right or else to the left, where nothing is covered.

    Where a whole label has no room, its first word may; `reserved` cells (column, row, columns) are
    left to others.

    A label keeps its distance of one blank cell from nodes and from other labels; lines beneath it
    give way.
    """
    inside = _inside(at, cells).tolist()
    places: list[list[int]] = at.tolist()
    # One integer for each row of cells, a bit for each cell that is taken; bit 0 is beside the left
    # edge, so that a label's neighbours can be asked for like any other.
    taken = [0] * cells.height
    for (x, y), within in zip(places, inside, strict=True):
        if within:
            taken[y] |= 2 << x
    for x, y, columns in reserved:
        if 0 <= y < cells.height:
            taken[y] |= ((1 << columns) - 1) << (x + 1)
    for node in dict.fromkeys([*wanted, *graph.label_order]):
        if not inside[node]:
            continue
        whole = truncate(graph.labels[node], LABEL_COLUMNS)
        (x, y), own = places[node], 2 << places[node][0]
        tries = [
            (label, left)
            for label in dict.fromkeys((whole, whole.partition(" ")[0]))
            for left in (x + 1, x - width(label))
        ]
        for label, left in tries:
            columns = width(label)
            if not columns or not 0 <= left <= cells.width - columns:
                continue
            around = ((4 << columns) - 1) << left
            if not taken[y] & ~own & around:
                cells.text(left, y, label, inks.number(graph.node_styles[graph.node_ink[node]]))
                taken[y] |= around
                break


def draw_captions(graph: Graph, viewport: Viewport, cells: Cells, inks: Inks) -> None:
    """Names of rows and columns; sticky ones at the left edge."""
    if not graph.captions:
        return
    at = viewport.cells([(caption.x, caption.y) for caption in graph.captions])
    for caption, (x, y) in zip(graph.captions, at.tolist(), strict=True):
        cells.text(0 if caption.sticky else x, y, caption.text, inks.number(caption.style))


def node_at(graph: Graph, viewport: Viewport, column: int, row: int) -> int | None:
    """The node whose mark is in a cell, the topmost; else the nearest in the cells around it."""
    if not graph.n_nodes:
        return None
    away = np.abs(viewport.cells(graph.positions) - (column, row)).max(axis=1)
    here = np.flatnonzero(away == 0)
    if len(here):
        return int(here[-1])
    near = np.flatnonzero(away == 1)
    if not len(near):
        return None
    dots = viewport.dots(graph.positions[near])
    middle = ((column + 0.5) * DOTS_X, (row + 0.5) * DOTS_Y)
    return int(near[np.hypot(*(dots - middle).T).argmin()])


def edge_at(graph: Graph, viewport: Viewport, column: int, row: int) -> int | None:
    """The edge that passes nearest to the middle of a cell, if one passes through or by it."""
    if not len(graph.edges):
        return None
    lines = graph.segments(viewport)
    start, way = lines[:, :2], lines[:, 2:] - lines[:, :2]
    middle = np.array([(column + 0.5) * DOTS_X, (row + 0.5) * DOTS_Y])
    length = np.maximum((way**2).sum(axis=1), 1e-12)
    along = np.clip(((middle - start) * way).sum(axis=1) / length, 0, 1)
    away = np.hypot(*(start + way * along[:, None] - middle).T)
    nearest = float(away.min())
    if nearest > DOTS_Y:
        return None
    return int(np.flatnonzero(away <= nearest + 1e-9)[-1])  # of equal ones the topmost


def next_node(graph: Graph, node: int | None, dx: int, dy: int, viewport: Viewport) -> int | None:
    """The node one comes to from `node` in a direction: near, and rather ahead than beside.

    Without `node` the one nearest to the plane's beginning. None if nothing lies that way.
    """
    if not graph.n_nodes:
        return None
    cells = viewport.dots(graph.positions) / (DOTS_X, DOTS_Y) * (1, 2)  # a cell is twice as high
    if node is None:
        return int(np.lexsort((cells[:, 0], cells[:, 1]))[0])
    away = cells - cells[node]
    ahead, beside = away @ (dx, dy), np.abs(away @ (dy, dx))
    cost = np.where(ahead > 1e-6, ahead + 3 * beside, np.inf)
    cost[node] = np.inf
    best = int(cost.argmin())
    return best if np.isfinite(cost[best]) else None


def _inside(at: NDArray[np.int32], cells: Cells) -> NDArray[np.bool_]:
    return (at >= 0).all(axis=1) & (at[:, 0] < cells.width) & (at[:, 1] < cells.height)

"""The graph canvas: pan, zoom, hover, pick and step from node to node over a `Graph`.

The edges are drawn once for a view and kept; moving the selection redraws its own edges and labels,
and the wire carries the cells that differ.
"""

from dataclasses import dataclass

from rich.style import Style
from textual import events
from textual.message import Message

from circuit_client.render.text_width import width as text_width
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.graph import (
    EMPTY,
    LABEL_COLUMNS,
    Graph,
    draw_captions,
    draw_edges,
    draw_incident,
    draw_labels,
    draw_nodes,
    edge_at,
    next_node,
    node_at,
)
from circuit_tui.canvas.viewport import Viewport
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import selected

#: Magnification of one step in or out.
ZOOM = 1.4


class GraphCanvas(CellCanvas, can_focus=True):
    """Shows a graph; `select` moves the cursor, `Picked` and `Hovered` say what the mouse did."""

    DEFAULT_CSS = "GraphCanvas { width: 1fr; height: 1fr; }"

    @dataclass
    class Hovered(Message):
        """The mouse came upon a node or an edge, or left them (both None)."""

        canvas: "GraphCanvas"
        node: int | None
        edge: int | None

    @dataclass
    class Picked(Message):
        """A node (or else an edge) was clicked, or a node chosen by `step`."""

        canvas: "GraphCanvas"
        node: int | None
        edge: int | None

    def __init__(
        self,
        graph: Graph = EMPTY,
        *,
        look: Look | None = None,
        square: bool = False,
        margin: int = 2,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(look=look, name=name, id=id, classes=classes)
        self._graph = graph
        self._square = square
        self._margin = margin
        self._viewport: Viewport | None = None  # None: as much as fits, also after a resize
        self._selected: int | None = None
        #: The node whose edges are in front: the one under the cursor, unless that is passing.
        self._in_front: int | None = None
        self._hovered: tuple[int | None, int | None] = (None, None)
        self._dragged_from: tuple[int, int] | None = None
        self._dragged = False
        self._edges: tuple[tuple[object, ...], Cells] | None = None

    # ------------------------------------------------------------------------------ what is shown

    @property
    def graph(self) -> Graph:
        """The graph shown."""
        return self._graph

    @property
    def selected(self) -> int | None:
        """The node under the cursor."""
        return self._selected

    @property
    def viewport(self) -> Viewport:
        """The part of the plane shown."""
        if self._viewport is not None:
            return self._viewport
        width, height = self.size
        left, right = self._room_beside(width)
        fitted = Viewport.fitting(
            self._graph.positions,
            width - left - right,
            height,
            margin=self._margin,
            square=self._square,
        )
        return fitted.panned(-left, 0)

    def _room_beside(self, width: int) -> tuple[int, int]:
        """Columns kept free for the names of rows at the left, for a last label at the right."""
        names = [text_width(caption.text) for caption in self._graph.captions if caption.sticky]
        labels = [text_width(label) for label in self._graph.labels]
        left, right = max(names, default=-1) + 1, min(LABEL_COLUMNS, max(labels, default=0)) // 2
        return (left, right) if left + right < width // 3 else (0, 0)

    def show(self, graph: Graph, *, selected: int | None = None, keep_view: bool = False) -> None:
        """Show another graph, all of it unless `keep_view`."""
        if not keep_view:
            self._viewport = None
        self._graph = graph
        self._edges = None
        self._hovered = (None, None)
        self._selected = selected if selected is not None and selected < graph.n_nodes else None
        self._in_front = self._selected
        self.redraw()

    def select(self, node: int | None, *, is_passing: bool = False) -> None:
        """Move the cursor to a node, and the view as far as it takes to see it. Its edges come to
        the front, unless the cursor is only passing.
        """
        if node is not None and not 0 <= node < self._graph.n_nodes:
            raise IndexError(f"node {node} of a graph of {self._graph.n_nodes}")
        self._selected = node
        if not is_passing:
            self._in_front = node
        if node is not None and self._viewport is not None:
            self._viewport = self._viewport.moved_to_show(
                self._graph.positions[node], self.size.width, self.size.height
            )
        self.redraw()

    # ------------------------------------------------------------------------------------ actions

    def pan(self, columns: float, rows: float) -> None:
        """Move the view by cells."""
        self._viewport = self.viewport.panned(columns, rows)
        self.redraw()

    def zoom(self, factor: float, column: float | None = None, row: float | None = None) -> None:
        """Magnify about a cell: the given one, else the selected node's, else the middle."""
        middle: tuple[float, float] = (self.size.width // 2, self.size.height // 2)
        if column is not None and row is not None:
            middle = column, row
        elif self._selected is not None:
            x, y = self.viewport.cells(self._graph.positions[self._selected])[0].tolist()
            middle = x, y
        self._viewport = self.viewport.zoomed(factor, *middle)
        self.redraw()

    def fit(self) -> None:
        """Show all of it again."""
        self._viewport = None
        self.redraw()

    def neighbour(self, dx: int, dy: int) -> int | None:
        """The next node in a direction; None if there is no other."""
        node = next_node(self._graph, self._selected, dx, dy, self.viewport)
        return None if node == self._selected else node

    def step(self, dx: int, dy: int) -> None:
        """Select the next node in a direction, and say so."""
        if (node := self.neighbour(dx, dy)) is not None:
            self.select(node)
            self.post_message(self.Picked(self, node, None))

    def hit(self, column: int, row: int) -> tuple[int | None, int | None]:
        """The node, or else the edge, at a cell."""
        node = node_at(self._graph, self.viewport, column, row)
        edge = None if node is not None else edge_at(self._graph, self.viewport, column, row)
        return node, edge

    # -------------------------------------------------------------------------------------- mouse

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the plane, or say what the mouse is on."""
        if self._dragged_from is not None and event.button:
            x, y = self._dragged_from
            if (event.x, event.y) != (x, y):
                self._dragged, self._dragged_from = True, (event.x, event.y)
                self.pan(x - event.x, y - event.y)
            return
        self._hover(self.hit(event.x, event.y))

    def on_leave(self, event: events.Leave) -> None:
        """Nothing is under the mouse any more."""
        self._hover((None, None))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin a click or a drag."""
        self._dragged_from, self._dragged = (event.x, event.y), False
        self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """End it; a click without a drag picks."""
        self.release_mouse()
        clicked = self._dragged_from is not None and not self._dragged
        self._dragged_from = None
        if not clicked:
            return
        node, edge = self.hit(event.x, event.y)
        if node is not None:
            self.select(node)
        if node is not None or edge is not None:
            self.post_message(self.Picked(self, node, edge))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Magnify about the mouse."""
        event.stop()
        self.zoom(ZOOM, event.x, event.y)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Show more around the mouse."""
        event.stop()
        self.zoom(1 / ZOOM, event.x, event.y)

    def _hover(self, what: tuple[int | None, int | None]) -> None:
        if what != self._hovered:
            self._hovered = what
            self.redraw()
            self.post_message(self.Hovered(self, *what))

    # ------------------------------------------------------------------------------------ drawing

    def watch_look(self) -> None:
        """Other inks: the kept edges have the old ones."""
        self._edges = None
        super().watch_look()

    def draw(self, cells: Cells) -> None:
        """Edges, captions, the selection's edges, nodes, labels."""
        graph, viewport = self._graph, self.viewport
        ascii_only = self.look.ascii_only
        base = self._base(cells.width, cells.height, viewport)
        cells.chars[:], cells.inks[:] = base.chars, base.inks
        wanted: list[int] = []
        if self._selected is not None and self._selected != self._in_front:
            wanted.append(self._selected)
        for node in dict.fromkeys([self._in_front, self._hovered[0]]):
            if node is not None:
                draw_incident(graph, node, viewport, cells, self.inks, None, ascii_only=ascii_only)
                wanted += [node, *graph.neighbours(node)]
        at = draw_nodes(graph, viewport, cells, self.inks)
        names = [caption for caption in graph.captions if caption.sticky]
        rows = viewport.cells([(caption.x, caption.y) for caption in names]) if names else at[:0]
        reserved = [
            (0, y, text_width(caption.text) + 1)
            for caption, (_, y) in zip(names, rows.tolist(), strict=True)
        ]
        draw_labels(graph, at, cells, self.inks, wanted, reserved=reserved)
        for node, style in (
            (self._hovered[0], Style(underline=True)),
            (self._selected, selected(self.look)),
        ):
            if node is not None:
                x, y = at[node].tolist()
                mark = graph.marks[node]
                cells.put(x, y, mark, self.ink(graph.node_styles[graph.node_ink[node]] + style))
        draw_captions(graph, viewport, cells, self.inks)

    def _base(self, width: int, height: int, viewport: Viewport) -> Cells:
        key = (width, height, viewport, self.look)
        if self._edges is None or self._edges[0] != key:
            cells = Cells(width, height)
            draw_edges(self._graph, viewport, cells, self.inks, ascii_only=self.look.ascii_only)
            self._edges = key, cells
        return self._edges[1]

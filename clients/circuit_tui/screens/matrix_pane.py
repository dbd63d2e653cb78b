"""The whole circuit as a matrix, and under it the nodes of the site that the cursor is at."""

from collections.abc import Collection
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from circuit_client import caption
from circuit_client.render.heat import Scale
from circuit_client.views.matrix import site_matrix
from circuit_tui.loaded import Loaded
from circuit_tui.paint.look import Look
from circuit_tui.views.circuit import NODE_COLUMNS, node_rows
from circuit_tui.views.table import Cell
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.resting import Resting
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.site_matrix import MatrixView


class MatrixPane(Vertical):
    """A `MatrixView` and a list of nodes. The list's cursor is on the selected node, or on the one
    that becomes it when the matrix' cursor rests or a key acts on it (`rest`).
    """

    DEFAULT_CSS = """
    MatrixPane MatrixView { height: auto; max-height: 60%; }
    """

    @dataclass
    class Selected(Message):
        """A node is selected here."""

        name: str

    @dataclass
    class Opened(Selected):
        """A node of the list was chosen."""

    def __init__(self, *, look: Look, id: str | None = None) -> None:
        super().__init__(id=id)
        self._look = look
        self._loaded: Loaded | None = None
        self._off: Collection[int] = ()
        self._scale = Scale("diverging", 0.0)
        #: The selected node.
        self._index: int | None = None
        #: Of the matrix' cursor.
        self._resting = Resting(self, self._rest)

    def compose(self) -> ComposeResult:
        """The matrix, the name of a site, its nodes."""
        yield MatrixView(look=self._look, id="matrix-view")
        yield Lines(look=self._look, height=1, id="site")
        yield Rows(NODE_COLUMNS, empty="", id="nodes")

    def show(
        self, loaded: Loaded, off: Collection[int], scale: Scale, selected: int | None
    ) -> None:
        """Another circuit, or other nodes that are off."""
        self._loaded, self._off, self._scale = loaded, off, scale
        matrix = site_matrix(loaded.graph, n_layer=loaded.n_layer)
        view = self.query_one(MatrixView)
        view.styles.height = len(matrix.layers) + 1
        view.show(matrix, scale)
        self.point_at(selected)

    def point_at(self, selected: int | None) -> None:
        """Another node is selected."""
        self._index = selected
        if self._loaded is not None and selected is not None and not self._resting.is_passing:
            self.query_one(MatrixView).point_at(self._loaded.graph.nodes[selected].site)
        self._fill()

    def rest(self) -> str | None:
        """The node that the list is at, if the matrix' cursor has led there and not rested yet."""
        if not self._resting.end():
            return None
        row = self.query_one("#nodes", Rows).current
        return None if row is None else row.key

    def _rest(self) -> None:
        if (name := self.rest()) is not None:
            self.post_message(self.Selected(name))

    def _fill(self) -> None:
        loaded, cell = self._loaded, self.query_one(MatrixView).pointed
        table, line = self.query_one("#nodes", Rows), self.query_one("#site", Lines)
        if loaded is None or cell is None:
            table.fill([])
            line.show([] if loaded is None else [[Cell(" nothing is kept here", "dim")]])
            return
        indices = loaded.graph.by_site.get(cell.site, [])
        rows = node_rows(loaded.graph, indices, self._off, self._scale)
        selected = [loaded.graph.nodes[i].name for i in indices if i == self._index]
        table.fill(rows, cursor_key=[*selected, rows[0].key][0])
        many = caption.count(len(indices), "node")
        line.show([[Cell(f" {cell.site}", "strong"), Cell(f"  {many}", "dim")]])

    @on(MatrixView.Pointed)
    def look_at_site(self) -> None:
        """The list follows at once, the selection when the cursor rests."""
        self._resting.moved()
        self._fill()

    @on(Rows.Moved)
    def look_at_node(self, message: Rows.Moved) -> None:
        """It is the selected one."""
        message.stop()
        kind = self.Opened if isinstance(message, Rows.Chosen) else self.Selected
        self.post_message(kind(message.row.key))

"""The whole circuit as a matrix: a row for each layer, a column for each site of a layer.

A cell has the number of kept nodes, on the colour of the largest ablation delta among them.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from textual import events
from textual.binding import BindingType
from textual.message import Message

from circuit_client.render.heat import Scale
from circuit_client.render.text_width import pad, truncate
from circuit_client.views.matrix import MatrixCell, SiteMatrix
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.keys import bindings
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, heat, selected

_GUTTER: Final = 7
_COLUMNS: Final = 8
_SHORTEST: Final = ("a.in", "q", "k", "v", "a.out", "m.in", "mlp", "m.out")
_SHORT: Final = {
    "attn.act_in": "attn in",
    "attn.q": "q",
    "attn.k": "k",
    "attn.v": "v",
    "attn.resid_delta": "attn out",
    "mlp.act_in": "mlp in",
    "mlp.post_act": "neurons",
    "mlp.resid_delta": "mlp out",
}


class MatrixView(CellCanvas, can_focus=True):
    """Shows a `SiteMatrix`; `Pointed` says where the cursor is, `Chosen` that a site was chosen."""

    DEFAULT_CSS = "MatrixView { width: 1fr; height: auto; max-height: 60%; }"
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("matrix"))

    @dataclass
    class Pointed(Message):
        """The cursor is on a cell."""

        view: "MatrixView"
        cell: MatrixCell | None

    @dataclass
    class Chosen(Message):
        """A cell was chosen."""

        view: "MatrixView"
        cell: MatrixCell

    def __init__(self, *, look: Look, id: str | None = None) -> None:
        super().__init__(look=look, id=id, classes="painted")
        self._matrix = SiteMatrix((), (), ())
        self._scale = Scale("diverging", 0.0)
        self.cursor = (0, 0)
        self._top = 0

    def show(self, matrix: SiteMatrix, scale: Scale) -> None:
        """Show another matrix, the cursor on the first cell that has something."""
        if matrix.layers != self._matrix.layers:
            self.cursor = next(
                (
                    (r, c)
                    for r, row in enumerate(matrix.cells)
                    for c, cell in enumerate(row)
                    if cell is not None
                ),
                (0, 0),
            )
        self._matrix, self._scale = matrix, scale
        self.redraw()

    def point_at(self, site: str) -> None:
        """Put the cursor on a site, saying nothing of it."""
        for r, row in enumerate(self._matrix.cells):
            for c, cell in enumerate(row):
                if cell is not None and cell.site == site and (r, c) != self.cursor:
                    self.cursor = r, c
                    self.redraw()

    @property
    def pointed(self) -> MatrixCell | None:
        """The cell under the cursor."""
        row, column = self.cursor
        return self._matrix.cells[row][column] if row < len(self._matrix.cells) else None

    def draw(self, cells: Cells) -> None:
        """Names, then a line for each layer."""
        quiet, colors = self.ink(dim(self.look)), heat(self.look)
        columns = self._columns(cells.width)
        for c, kind in enumerate(self._matrix.kinds):
            name = _SHORT.get(kind, kind) if columns > _COLUMNS else _SHORTEST[c]
            name = pad(truncate(name, columns - 1), columns - 1, "right")
            cells.text(_GUTTER + c * columns, 0, name, quiet)
        self._top = max(min(self._top, self.cursor[0]), self.cursor[0] - cells.height + 2)
        for r in range(self._top, len(self._matrix.layers)):
            y, layer = 1 + r - self._top, self._matrix.layers[r]
            if y >= cells.height:
                break
            cells.text(0, y, pad("final" if layer is None else f"{layer}", 5, "right"), quiet)
            for c, cell in enumerate(self._matrix.cells[r]):
                x = _GUTTER + c * columns
                is_here = (r, c) == self.cursor
                if cell is None:
                    said, style = "." if self.look.ascii_only else "·", dim(self.look)
                else:
                    level = colors.level(cell.strongest or 0.0, self._scale)
                    sign = colors.sign(level, signed=True) if self.look.few_colors else ""
                    said, style = f"{cell.n_nodes}{sign}", colors.background(level)
                cells.text(x, y, pad(f"{said} ", columns - 1, "right"), self.ink(style))
                if is_here:  # beside the number, so that its colour stays to be read
                    right = x + columns - 2
                    cells.put(right - len(said) - 1, y, "[", self.ink(selected(self.look)))
                    cells.put(right, y, "]", self.ink(selected(self.look)))

    def _columns(self, room: int) -> int:
        n = max(1, len(self._matrix.kinds))
        return max(5, min(12, (room - _GUTTER) // n))

    def action_step(self, down: int, right: int) -> None:
        """Move the cursor."""
        rows, columns = len(self._matrix.layers), len(self._matrix.kinds)
        if rows:
            row = max(0, min(rows - 1, self.cursor[0] + down))
            self.cursor = row, max(0, min(columns - 1, self.cursor[1] + right))
            self.redraw()
            self.post_message(self.Pointed(self, self.pointed))

    def action_choose(self) -> None:
        """Choose the cell under the cursor."""
        if (cell := self.pointed) is not None:
            self.post_message(self.Chosen(self, cell))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on the cell with the cursor chooses it."""
        columns = self._columns(self.size.width)
        row, column = event.y - 1 + self._top, (event.x - _GUTTER) // columns
        if event.y < 1 or event.x < _GUTTER or not 0 <= row < len(self._matrix.layers):
            return
        if (row, column) == self.cursor:
            self.action_choose()
        else:
            self.action_step(row - self.cursor[0], column - self.cursor[1])

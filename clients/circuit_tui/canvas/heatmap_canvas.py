"""The heatmap canvas: a matrix in half blocks or digits, with labels, a cursor, zoom and scroll."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.color import Color
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message

from circuit_client.render.heat import Scale, scale_for
from circuit_client.render.style import RGB
from circuit_client.render.text_width import pad, truncate, width
from circuit_tui.canvas.blocks import (
    Grid,
    draw_digits,
    draw_half_blocks,
    fewest_blocks,
    summarised,
)
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, heat, selected

#: Columns that the names of rows may take.
_LABEL_COLUMNS = 18


class HeatmapCanvas(CellCanvas, can_focus=True):
    """Shows `values` [R, C] on a scale; the cursor is an entry, `Picked` and `Hovered` name one."""

    DEFAULT_CSS = "HeatmapCanvas { width: 1fr; height: 1fr; }"

    @dataclass
    class Hovered(Message):
        """The mouse came upon an entry, or left the matrix (both None)."""

        canvas: "HeatmapCanvas"
        row: int | None
        column: int | None

    @dataclass
    class Picked(Message):
        """An entry was clicked, or the cursor moved to it."""

        canvas: "HeatmapCanvas"
        row: int
        column: int

    def __init__(
        self,
        *,
        look: Look | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(look=look, name=name, id=id, classes=classes)
        self._values: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._scale = Scale("sequential", 0.0)
        self._row_labels: Sequence[str] = ()
        self._column_labels: Sequence[str] = ()
        self._entry_columns = 2
        self._cursor: tuple[int, int] | None = None
        self._block: int | None = None  # None: the smallest with which all fits
        self._first = (0, 0)
        self._hovered: tuple[int | None, int | None] = (None, None)

    def show(
        self,
        values: ArrayLike,
        scale: Scale | None = None,
        *,
        row_labels: Sequence[str] = (),
        column_labels: Sequence[str] = (),
        entry_columns: int = 2,
        cursor: tuple[int, int] | None = None,
    ) -> None:
        """Show another matrix. Without `scale`: as far as it reaches, two-sided if it is.

        With row labels each entry has a line of its own; names of columns are written where an
        entry is wide enough (`entry_columns`).
        """
        matrix = np.asarray(values, np.float32)
        if matrix.ndim != 2:
            raise ValueError(f"a heatmap shows a matrix, not an array of shape {matrix.shape}")
        if scale is None:
            flat = matrix[np.isfinite(matrix)]
            kind = "diverging" if (flat < 0).any() else "sequential"
            scale = scale_for([float(np.abs(flat).max(initial=0.0))], kind)
        self._values, self._scale = matrix, scale
        self._row_labels, self._column_labels = row_labels, column_labels
        self._entry_columns = max(1, entry_columns)
        self._cursor, self._block, self._first = cursor, None, (0, 0)
        self._follow()
        self.redraw()

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column under the cursor."""
        return self._cursor

    @property
    def scale(self) -> Scale:
        """What the colours mean."""
        return self._scale

    def select(self, row: int, column: int) -> None:
        """Move the cursor to an entry (moved into the matrix) and scroll to see it."""
        if not self._values.size:
            return
        rows, columns = self._values.shape
        self._cursor = max(0, min(rows - 1, row)), max(0, min(columns - 1, column))
        self._follow()
        self.redraw()

    def step(self, down: int, right: int) -> None:
        """Move the cursor by so many entries (blocks of them, zoomed out) and say where it is."""
        if not self._values.size:
            return
        block = self._grid().block
        row, column = self._cursor or (0, 0)
        if self._cursor is not None:
            row, column = row + down * block, column + right * block
        self.select(row, column)
        if self._cursor is not None:
            self.post_message(self.Picked(self, *self._cursor))

    def zoom(self, steps: int) -> None:
        """One entry to a cell and all in sight are the ends; positive goes in."""
        grid = self._grid()
        most = fewest_blocks(self._values.shape, *self._room(), self._cell_grid())
        block = grid.block // 2**steps if steps > 0 else grid.block * 2**-steps
        self._block = max(1, min(most, block))
        self._follow()
        self.redraw()

    def hit(self, column: int, row: int) -> tuple[int, int] | None:
        """The entry (the first of its block) at a cell; None beside the matrix."""
        left, top = self._origin()
        if column < left or row < top:
            return None
        entry = self._grid().entry_at(column - left, row - top)
        rows, columns = self._values.shape
        return entry if entry[0] < rows and entry[1] < columns else None

    # ------------------------------------------------------------------------------------- layout

    def _digits(self) -> bool:
        return self.look.few_colors or self.look.ascii_only

    def _cell_grid(self) -> Grid:
        tall = bool(self._row_labels) or self._digits()
        columns = self._entry_columns if tall or self._column_labels else 1
        if self._digits():
            columns = max(columns, 3 if self._scale.kind == "diverging" else 2)
        return Grid(columns, 2 if tall else 1)

    def _origin(self) -> tuple[int, int]:
        labels = [min(width(label), _LABEL_COLUMNS) for label in self._row_labels]
        gutter = min(max(labels, default=-1) + 1, self.size.width // 3)
        return gutter, 1 if self._column_labels else 0

    def _room(self) -> tuple[int, int]:
        left, top = self._origin()
        return max(1, self.size.width - left), max(1, self.size.height - top)

    def _grid(self) -> Grid:
        shape = self._cell_grid()
        block = self._block
        if block is None:
            fit = fewest_blocks(self._values.shape, *self._room(), shape)
            block = 1 if self._row_labels else fit  # what has names is read entry by entry
        return Grid(shape.columns, shape.half_rows, block, *self._first)

    def _follow(self) -> None:
        """Scroll as little as brings the cursor into sight, and never beyond the matrix."""
        if not self.size:
            return
        grid = self._grid()
        room = self._room()
        within = (room[1] * 2 // grid.half_rows, room[0] // grid.columns)
        first = []
        for axis in (0, 1):
            count = -(-self._values.shape[axis] // grid.block)
            at = self._first[axis]
            if self._cursor is not None:
                here = self._cursor[axis] // grid.block
                at = min(at, here) if here < at else max(at, here - within[axis] + 1)
            first.append(max(0, min(at, count - within[axis])))
        self._first = first[0], first[1]

    # ------------------------------------------------------------------------------------ drawing

    def on_resize(self, event: events.Resize) -> None:
        """The cursor stays in sight."""
        self._follow()
        super().on_resize(event)

    def draw(self, cells: Cells) -> None:
        """Names, entries, cursor."""
        if not self._values.size:
            return
        grid, colors = self._grid(), heat(self.look)
        left, top = self._origin()
        rows, columns = grid.visible(*self._room())
        row, column = grid.first_row, grid.first_column
        part = self._values[
            row * grid.block : (row + rows) * grid.block,
            column * grid.block : (column + columns) * grid.block,
        ]
        levels = colors.levels_of(summarised(part, grid.block), self._scale)
        if self._digits():
            draw_digits(cells, levels, grid, self.inks, colors, self._scale, (left, top))
        else:
            draw_half_blocks(cells, levels, grid, self.inks, colors, (left, top))
        self._draw_names(cells, grid, left, top)
        self._draw_cursor(cells, grid, left, top)

    def _draw_names(self, cells: Cells, grid: Grid, left: int, top: int) -> None:
        mark = glyphs(self.look).ellipsis
        quiet, loud = self.ink(dim(self.look)), self.ink(selected(self.look))
        at = self._cursor or (-1, -1)
        for y in range(top, cells.height):
            entry = grid.entry_at(0, y - top)[0]
            if grid.half_rows == 2 and entry < len(self._row_labels):
                text = pad(truncate(self._row_labels[entry], left - 1, ellipsis=mark), left - 1)
                cells.text(0, y, text, loud if entry == at[0] else quiet)
        if not self._column_labels:
            return
        for x in range(left, cells.width - grid.columns + 1, grid.columns):
            entry = grid.entry_at(x - left, 0)[1]
            if entry < len(self._column_labels):
                room = grid.columns - 1 if grid.columns > 1 else 1
                text = truncate(self._column_labels[entry], room, ellipsis=mark)
                cells.text(x, 0, text, loud if entry == at[1] else quiet)

    def _draw_cursor(self, cells: Cells, grid: Grid, left: int, top: int) -> None:
        if self._cursor is None:
            return
        row = self._cursor[0] // grid.block - grid.first_row
        column = self._cursor[1] // grid.block - grid.first_column
        x, y = left + column * grid.columns, top + row * grid.half_rows // 2
        if x < left or y < top:
            return
        style = selected(self.look)
        region = Region(x, y, grid.columns, 1)
        if grid.half_rows == 1:
            signs = glyphs(self.look)
            for i in range(grid.columns):
                cells.put(x + i, y, signs.lower_half if row % 2 else signs.upper_half)
            other = heat(self.look).color(self._level(row ^ 1, column, grid))
            style = _half_selected(style, other)
        cells.paint(region, self.ink(style))

    def _level(self, row: int, column: int, grid: Grid) -> int:
        first = (row + grid.first_row) * grid.block, (column + grid.first_column) * grid.block
        block = self._values[first[0] : first[0] + grid.block, first[1] : first[1] + grid.block]
        if not block.size:
            return 0
        return heat(self.look).level(float(summarised(block, grid.block)[0, 0]), self._scale)

    # -------------------------------------------------------------------------------------- mouse

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Say what the mouse is on."""
        self._hover(self.hit(event.x, event.y) or (None, None))

    def on_leave(self, event: events.Leave) -> None:
        """Nothing is under the mouse any more."""
        self._hover((None, None))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to what was clicked."""
        entry = self.hit(event.x, event.y)
        if entry is not None:
            self.select(*entry)
            self.post_message(self.Picked(self, *entry))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Go in."""
        event.stop()
        self.zoom(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Go out."""
        event.stop()
        self.zoom(-1)

    def _hover(self, what: tuple[int | None, int | None]) -> None:
        if what != self._hovered:
            self._hovered = what
            self.post_message(self.Hovered(self, *what))


def _half_selected(style: Style, other: RGB | None) -> Style:
    """The cursor's colour as that of one half of a cell, the other half staying as it is."""
    return Style(color=style.bgcolor, bgcolor=None if other is None else Color.from_rgb(*other))

"""Curves on common axes, from which values are read with a cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from textual import events
from textual.binding import BindingType
from textual.message import Message

from circuit_client.render.heat import number
from circuit_client.render.text_width import truncate, width
from circuit_tui.canvas.braille import DOTS_X, DOTS_Y, Braille
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.keys import bindings
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, hue, selected
from circuit_tui.widgets.axes import AxisScale, tick_text


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One curve: `x` and `y` [n], in the order of x. `points` draws a mark for each, unjoined."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    points: bool = False

    @classmethod
    def of(cls, name: str, x: ArrayLike, y: ArrayLike, *, points: bool = False) -> "Series":
        """From anything array-like; sorted by x, with what is not finite left out."""
        a, b = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
        if a.shape != b.shape:
            raise ValueError(f"{name}: {len(a)} x for {len(b)} y")
        kept = np.isfinite(a) & np.isfinite(b)
        order = np.argsort(a[kept], kind="stable")
        return cls(name, a[kept][order], b[kept][order], points)


@dataclass(frozen=True, slots=True)
class Reading:
    """A point of a series: its number there, and its values."""

    series: int
    index: int
    x: float
    y: float


class Plot(CellCanvas, can_focus=True):
    """Shows series; the cursor is at an x that some series has, `Read` says the values there."""

    DEFAULT_CSS = "Plot { width: 1fr; height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = list(bindings("plot"))

    @dataclass
    class Read(Message):
        """The cursor moved to another x: the nearest point of each series."""

        plot: "Plot"
        x: float
        readings: tuple[Reading, ...]

    def __init__(
        self,
        series: Sequence[Series] = (),
        *,
        x_name: str = "",
        y_name: str = "",
        log_x: bool = False,
        log_y: bool = False,
        empty: str = "nothing to plot yet",
        look: Look | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(look=look, name=name, id=id, classes=f"painted {classes or ''}")
        self._series = tuple(series)
        self._names = x_name, y_name
        self._log = log_x, log_y
        self._empty = empty
        self._cursor: float | None = None

    # ------------------------------------------------------------------------------ what is shown

    def show(
        self,
        series: Sequence[Series],
        *,
        x_name: str | None = None,
        y_name: str | None = None,
        log_x: bool | None = None,
        log_y: bool | None = None,
        empty: str | None = None,
    ) -> None:
        """Show other series; what is not given stays, the cursor too."""
        self._series = tuple(series)
        self._names = (
            self._names[0] if x_name is None else x_name,
            self._names[1] if y_name is None else y_name,
        )
        self._log = (
            self._log[0] if log_x is None else log_x,
            self._log[1] if log_y is None else log_y,
        )
        self._empty = self._empty if empty is None else empty
        self.redraw()

    @property
    def series(self) -> tuple[Series, ...]:
        """The series shown."""
        return self._series

    @property
    def by_powers(self) -> tuple[bool, bool]:
        """Whether x and y go by powers."""
        return self._log

    @property
    def cursor(self) -> float | None:
        """The x that values are read at."""
        return self._cursor

    def toggle_log(self, axis: str) -> None:
        """Switch axis "x" or "y" between even and by powers."""
        x, y = self._log
        self._log = (not x, y) if axis == "x" else (x, not y)
        self.redraw()

    def readings(self) -> tuple[Reading, ...]:
        """The point of each series that is nearest to the cursor."""
        if self._cursor is None:
            return ()
        found = []
        for i, series in enumerate(self._series):
            if len(series.x):
                j = int(np.abs(series.x - self._cursor).argmin())
                found.append(Reading(i, j, float(series.x[j]), float(series.y[j])))
        return tuple(found)

    def step(self, by: int) -> None:
        """Move the cursor to the x so many points further on, of all series together."""
        places = np.unique(np.concatenate([s.x for s in self._series] or [np.zeros(0)]))
        if not len(places):
            return
        if self._cursor is None:
            at = 0 if by in (0, 1) or by < -1 else len(places) - 1
        else:
            at = int(np.abs(places - self._cursor).argmin()) + by
        self._read(float(places[max(0, min(len(places) - 1, at))]))

    def action_step(self, by: int) -> None:
        """Read the values so many points further on."""
        self.step(by)

    def action_toggle_log(self, axis: str) -> None:
        """The other scale of an axis."""
        self.toggle_log(axis)

    def leave(self) -> None:
        """Take the cursor away."""
        self._cursor = None
        self.redraw()

    def _read(self, x: float) -> None:
        if x != self._cursor:
            self._cursor = x
            self.redraw()
            self.post_message(self.Read(self, x, self.readings()))

    # ------------------------------------------------------------------------------------- layout

    def _axes(self) -> tuple[AxisScale, AxisScale] | None:
        margin = 0.04 if any(s.points for s in self._series) else 0.0
        x, y = (
            AxisScale.over(np.concatenate(some or [np.zeros(0)]), log=log, margin=margin)
            for some, log in (
                ([s.x for s in self._series], self._log[0]),
                ([s.y for s in self._series], self._log[1]),
            )
        )
        return None if x is None or y is None else (x, y)

    def _frame(self, y: AxisScale, cells: Cells) -> tuple[int, int, int, int]:
        """Left, top, width and height of the part between the axes."""
        texts = [tick_text(t) for t in y.ticks(max(2, cells.height // 4))]
        left = max((width(t) for t in texts), default=1) + 1
        return left, 1, max(1, cells.width - left - 1), max(1, cells.height - 3)

    # ------------------------------------------------------------------------------------ drawing

    def draw(self, cells: Cells) -> None:
        """Names and readings on the first line, axes, curves, cursor."""
        axes = self._axes()
        if axes is None or cells.width < 12 or cells.height < 5:
            text = self._empty if axes is None else "too small to plot"
            x = max(0, (cells.width - width(text)) // 2)
            cells.text(x, cells.height // 2, text, self.ink(dim(self.look)))
            return
        frame = self._frame(axes[1], cells)
        self._draw_axes(cells, axes, frame)
        self._draw_curves(cells, axes, frame)
        self._draw_cursor(cells, axes, frame)
        self._draw_names(cells)

    def _draw_axes(
        self, cells: Cells, axes: tuple[AxisScale, AxisScale], frame: tuple[int, int, int, int]
    ) -> None:
        (x, y), (left, top, columns, rows) = axes, frame
        quiet, signs = self.ink(dim(self.look)), glyphs(self.look)
        for row in range(rows):
            cells.put(left, top + row, signs.vertical, quiet)
        for column in range(columns):
            cells.put(left + 1 + column, top + rows, signs.horizontal, quiet)
        cells.put(left, top + rows, signs.corner, quiet)
        for tick in y.ticks(max(2, cells.height // 4)):
            row = top + round((1 - float(y.shares(tick))) * (rows - 1))
            text = tick_text(tick)
            cells.text(left - width(text), row, text, quiet)
            cells.put(left, row, signs.tick_left, quiet)
        name = f"{self._names[0]}{' (log)' if x.log else ''}"
        # Numbers make room for what they count, unless it would take half of the axis.
        name_room = width(name) + 2 if name and 2 * width(name) < columns else 0
        free_from, free_to = 0, cells.width - name_room
        for tick in x.ticks(max(2, columns // 12)):
            column = left + 1 + round(float(x.shares(tick)) * (columns - 1))
            text = tick_text(tick)
            start = min(column - width(text) // 2, cells.width - width(text))
            if start < free_from or start + width(text) > free_to:
                continue
            cells.put(column, top + rows, signs.tick_down, quiet)
            free_from = start + cells.text(start, top + rows + 1, text, quiet) + 2
        if free_from + width(name) <= cells.width:
            cells.text(cells.width - width(name), top + rows + 1, name, quiet)

    def _draw_curves(
        self, cells: Cells, axes: tuple[AxisScale, AxisScale], frame: tuple[int, int, int, int]
    ) -> None:
        left, top, columns, rows = frame
        raster = Braille(columns, rows, ascii_only=self.look.ascii_only)
        marks = glyphs(self.look).marks
        points: list[tuple[int, int, str, int]] = []
        for i, series in enumerate(self._series):
            dots = np.column_stack(
                [
                    axes[0].shares(series.x) * (columns * DOTS_X - 1),
                    (1 - axes[1].shares(series.y)) * (rows * DOTS_Y - 1),
                ]
            )
            dots = dots[np.isfinite(dots).all(axis=1)]
            ink = self.ink(hue(self.look, i))
            if not series.points and len(dots) > 1:
                raster.lines(np.hstack([dots[:-1], dots[1:]]), ink)
            if series.points or len(dots) == 1:
                points += [
                    (int(x) // DOTS_X, int(y) // DOTS_Y, marks[i % len(marks)], ink)
                    for x, y in np.rint(dots).tolist()
                ]
        raster.onto(cells, left + 1, top)
        for x, y, mark, ink in points:
            cells.put(left + 1 + x, top + y, mark, ink)

    def _draw_cursor(
        self, cells: Cells, axes: tuple[AxisScale, AxisScale], frame: tuple[int, int, int, int]
    ) -> None:
        if self._cursor is None:
            return
        left, top, columns, rows = frame
        share = float(axes[0].shares(self._cursor))
        if not 0 <= share <= 1:
            return
        column = left + 1 + round(share * (columns - 1))
        signs, quiet = glyphs(self.look), self.ink(dim(self.look))
        for row in range(rows):
            if cells.chars[top + row, column] == ord(" "):
                cells.put(column, top + row, signs.cursor, quiet)
        for reading in self.readings():
            x, y = float(axes[0].shares(reading.x)), float(axes[1].shares(reading.y))
            if np.isfinite(y) and np.isfinite(x):
                cells.put(
                    left + 1 + round(x * (columns - 1)),
                    top + round((1 - y) * (rows - 1)),
                    signs.marks[reading.series % len(signs.marks)],
                    self.ink(selected(self.look)),
                )

    def _draw_names(self, cells: Cells) -> None:
        quiet = self.ink(dim(self.look))
        name = f"{self._names[1]}{' (log)' if self._log[1] else ''}"
        x = cells.text(0, 0, name, quiet) + 2
        marks = glyphs(self.look).marks
        values = {reading.series: reading for reading in self.readings()}
        if values:
            at = f"{self._names[0]} {number(self._cursor or 0.0)}"
            x += cells.text(x, 0, at, self.ink(selected(self.look))) + 2
        for i, series in enumerate(self._series):
            text = f"{marks[i % len(marks)]} {series.name}"
            if i in values:
                text += f" {number(values[i].y)}"
            text = truncate(text, cells.width - x, ellipsis=glyphs(self.look).ellipsis)
            if not text:
                break
            x += cells.text(x, 0, text, self.ink(hue(self.look, i))) + 2

    # -------------------------------------------------------------------------------------- mouse

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Read the values under the mouse."""
        axes = self._axes()
        if axes is None:
            return
        left, top, columns, rows = self._frame(axes[1], self.cells)
        if left < event.x <= left + columns and top <= event.y < top + rows:
            share = (event.x - left - 1) / max(1, columns - 1)
            x = axes[0].value(share)
            places = np.unique(np.concatenate([s.x for s in self._series]))
            self._read(float(places[np.abs(axes[0].shares(places) - axes[0].shares(x)).argmin()]))

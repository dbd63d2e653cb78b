"""A table of cells: whatever changes in it, only the cells that differ are sent.

Over a slow line that is the difference between a hundred bytes a key and ten thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import ClassVar, Literal

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from circuit_client.render.text_width import pad, truncate, width
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.keys import bindings
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.palette import dim, heat
from circuit_tui.views.table import Column, Row, Tone


@dataclass(slots=True)
class _Laid:
    """Columns that are shown at the present width, and how wide."""

    columns: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)


class Rows(CellCanvas, can_focus=True):
    """A table with a cursor. `Moved` tells where it is, `Chosen` that enter or a click chose it."""

    DEFAULT_CSS = """
    Rows { height: 1fr; width: 1fr; }
    Rows > .rows--cursor { background: $block-cursor-background; color: $block-cursor-foreground;
        text-style: bold; }
    Rows > .rows--resting { background: $surface-lighten-2; }
    Rows > .rows--strong { text-style: bold; }
    Rows > .rows--dim { color: $text-muted; }
    Rows > .rows--good { color: $text-success; }
    Rows > .rows--bad { color: $text-error; }
    Rows > .rows--note { color: $text-accent; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--cursor",
        "rows--resting",
        "rows--strong",
        "rows--dim",
        "rows--good",
        "rows--bad",
        "rows--note",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("table"),
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "edge(-1)", "first", show=False),
        Binding("end", "edge(1)", "last", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, rows: "Rows", row: Row) -> None:
            super().__init__()
            self.rows = rows
            self.row = row

        @property
        def control(self) -> "Rows":
            """The table."""
            return self.rows

    class Chosen(Moved):
        """A row was chosen."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "nothing here",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=f"painted {classes or ''}")
        self._top = 0
        self._columns = list(columns)
        self._rows: list[Row] = []
        self._empty = empty
        self._laid = _Laid()
        self.cursor = 0

    def on_mount(self) -> None:
        """Take the app's colours."""
        self.look = getattr(self.app, "look", self.look)

    # ---------------------------------------------------------------------------------- content

    @property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        return self._rows

    @property
    def current(self) -> Row | None:
        """The row with the cursor."""
        return self._rows[self.cursor] if self.cursor < len(self._rows) else None

    def fill(
        self,
        rows: Sequence[Row],
        *,
        columns: Sequence[Column] | None = None,
        empty: str | None = None,
        cursor_key: str | None = None,
    ) -> None:
        """Show other rows. The cursor stays on its key, or goes to `cursor_key`."""
        before = cursor_key or (self.current.key if self.current else None)
        if columns is not None:
            self._columns = list(columns)
        if empty is not None:
            self._empty = empty
        self._rows = list(rows)
        keys = {row.key: i for i, row in enumerate(self._rows)}
        self.cursor = keys.get(before or "", min(self.cursor, max(0, len(self._rows) - 1)))
        self._lay()
        if self.styles.height is not None and self.styles.height.is_auto:
            self.refresh(layout=True)
        self.redraw()

    def update_row(self, key: str, row: Row) -> None:
        """Replace one row, repainting only it."""
        for i, old in enumerate(self._rows):
            if old.key == key:
                self._rows[i] = row
                self.redraw()
                return

    def point_at(self, key: str) -> None:
        """Put the cursor on a row, saying nothing of it."""
        for i, row in enumerate(self._rows):
            if row.key == key and i != self.cursor:
                self._set_cursor(i)

    # ------------------------------------------------------------------------------------ layout

    def on_resize(self, event: events.Resize) -> None:
        """Lay out again."""
        self._lay()
        super().on_resize(event)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are rows, where the height is left to the table."""
        return 1 + max(1, len(self._rows))

    def _lay(self) -> None:
        room = self.size.width - 3
        wanted = [
            max([c.room, width(c.heading), *(width(r.cells[i].text) for r in self._rows[:2000])])
            for i, c in enumerate(self._columns)
        ]
        shown = list(range(len(self._columns)))

        def least(i: int) -> int:
            return min(wanted[i], self._columns[i].least) if self._columns[i].shrink else wanted[i]

        # What may be left out goes first, from the right; then what is too wide even at its least.
        while (some := [i for i in shown if self._columns[i].optional]) and (
            sum(wanted[i] for i in shown) + 2 * (len(shown) - 1) > room
        ):
            shown.remove(some[-1])
        while len(shown) > 1 and sum(map(least, shown)) + 2 * (len(shown) - 1) > room:
            shown.pop()
        widths = [wanted[i] for i in shown]
        over = sum(widths) + 2 * (len(shown) - 1) - room
        while over > 0:
            j = max(range(len(shown)), key=lambda j: widths[j] - least(shown[j]))
            if widths[j] <= least(shown[j]):
                break
            widths[j] -= 1
            over -= 1
        self._laid = _Laid(shown, widths)

    # ----------------------------------------------------------------------------------- drawing

    def draw(self, cells: Cells) -> None:
        """The heading, then one row after another; at the right, how far one has scrolled."""
        self._keep_in_sight(cells.height)
        quiet = self.ink(self._style("dim"))
        mark = glyphs(self.look).ellipsis
        x = 2
        for i, w in zip(self._laid.columns, self._laid.widths, strict=True):
            column = self._columns[i]
            heading = pad(truncate(column.heading, w, ellipsis=mark), w, column.align)
            cells.text(x, 0, heading, quiet)
            x += w + 2
        if not self._rows:
            for y, line in enumerate(wrap(self._empty, max(1, cells.width - 3)), start=2):
                cells.text(2, y, line, quiet)
        for y in range(1, cells.height):
            index = self._top + y - 1
            if index < len(self._rows):
                self._draw_row(cells, y, index, mark)
        self._draw_bar(cells, quiet)

    def _draw_row(self, cells: Cells, y: int, index: int, mark: str) -> None:
        row = self._rows[index]
        if row.mark != " ":
            cells.text(0, y, row.mark, self.ink(self._style("note")))
        x = 2
        for n, (i, w) in enumerate(zip(self._laid.columns, self._laid.widths, strict=True)):
            cell, align = row.cells[i], self._columns[i].align
            text = truncate(cell.text, w, ellipsis=mark)
            style = heat(self.look).nine(cell.level) if cell.level else self._style(cell.tone)
            at = x + w - width(text) if align == "right" else x
            if n == 0 and index == self.cursor:
                text, at = pad(text, w, align), x
                style = style + self._style("cursor" if self.has_focus else "resting")
            cells.text(at, y, text, self.ink(style))
            x += w + 2

    def _draw_bar(self, cells: Cells, ink: int) -> None:
        room, n = cells.height - 1, len(self._rows)
        if n <= room or room < 2:
            return
        size = max(1, room * room // n)
        begin = (room - size) * self._top // max(1, n - room)
        for y in range(begin, begin + size):
            cells.text(cells.width - 1, 1 + y, glyphs(self.look).vertical, ink)

    def _style(self, tone: Tone | Literal["cursor", "resting"]) -> Style:
        if tone == "plain":
            return Style.null()
        if tone == "dim":
            return dim(self.look)
        style = self.get_component_rich_style(f"rows--{tone}", partial=True)
        keeps = tone in ("cursor", "resting")
        return Style(color=style.color, bgcolor=style.bgcolor if keeps else None, bold=style.bold)

    # ------------------------------------------------------------------------------------ cursor

    def _set_cursor(self, index: int) -> None:
        self.cursor = index
        self.redraw()

    def _keep_in_sight(self, height: int) -> None:
        room, last = max(1, height - 1), len(self._rows)
        self._top = max(min(self._top, self.cursor), self.cursor - room + 1)
        self._top = max(0, min(self._top, last - room))

    def _move_to(self, index: int) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        if self._rows and index != self.cursor:
            self._set_cursor(index)
            self.post_message(self.Moved(self, self._rows[index]))

    def action_move(self, by: int) -> None:
        """One row up or down."""
        self._move_to(self.cursor + by)

    def action_page(self, direction: int) -> None:
        """A screenful up or down."""
        self._move_to(self.cursor + direction * max(1, self.size.height - 2))

    def action_edge(self, direction: int) -> None:
        """To the first or the last row."""
        self._move_to(0 if direction < 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        """Choose the row with the cursor."""
        if self.current is not None:
            self.post_message(self.Chosen(self, self.current))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on the row with the cursor chooses it."""
        index = event.y - 1 + self._top
        if event.y == 0 or not 0 <= index < len(self._rows):
            return
        if index == self.cursor:
            self.action_choose()
        else:
            self._move_to(index)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three rows up."""
        event.stop()
        self._move_to(self.cursor - 3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three rows down."""
        event.stop()
        self._move_to(self.cursor + 3)

    def on_focus(self) -> None:
        """Show which table has the keys."""
        self.redraw()

    def on_blur(self) -> None:
        """Show that this one has not."""
        self.redraw()

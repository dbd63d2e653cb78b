"""A table on the Line API: moving the cursor repaints two cells' worth of marks and nothing else.

Over a slow line that is the difference between a hundred bytes a key and ten thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from circuit_client.render.text_width import pad, truncate, width
from circuit_tui.keys import bindings
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import heat
from circuit_tui.views.table import Column, Row, Tone


@dataclass(slots=True)
class _Laid:
    """Columns that are shown at the present width, and how wide."""

    columns: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)


class Rows(ScrollView, can_focus=True):
    """A table with a cursor. `Moved` tells where it is, `Chosen` that enter or a click chose it."""

    DEFAULT_CSS = """
    Rows { height: 1fr; scrollbar-size-horizontal: 0; scrollbar-size-vertical: 1;
        scrollbar-gutter: stable; }
    Rows > .rows--heading { color: $text-muted; }
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
        "rows--heading",
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

    look: reactive[Look] = reactive(Look(), init=False)

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
        self._keep_in_sight()
        self.refresh()

    def update_row(self, key: str, row: Row) -> None:
        """Replace one row, repainting only it."""
        for i, old in enumerate(self._rows):
            if old.key == key:
                if old != row:
                    self._rows[i] = row
                    self._repaint(i)
                return

    def point_at(self, key: str) -> None:
        """Put the cursor on a row, saying nothing of it."""
        for i, row in enumerate(self._rows):
            if row.key == key and i != self.cursor:
                self._set_cursor(i)

    # ------------------------------------------------------------------------------------ layout

    def on_resize(self) -> None:
        """Lay out again."""
        self._lay()

    def _lay(self) -> None:
        room = self.scrollable_content_region.width - 2
        wanted = [
            max([width(c.heading), *(width(r.cells[i].text) for r in self._rows[:2000])])
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
        self.virtual_size = Size(max(0, room), len(self._rows) + 1)

    # ------------------------------------------------------------------------------------- lines

    def render_line(self, y: int) -> Strip:
        """The heading, then one row after another."""
        columns = self.size.width
        if y == 0:
            return self._heading(columns)
        index = y - 1 + round(self.scroll_offset.y)
        if not self._rows and y == 2:
            text = truncate(f"  {self._empty}", columns)
            return self._strip([Segment(text, self._tone("dim"))], columns)
        if not 0 <= index < len(self._rows):
            return Strip.blank(columns, self.rich_style)
        return self._row_strip(index, columns)

    def _heading(self, columns: int) -> Strip:
        style = self.get_component_rich_style("rows--heading")
        text = "  " + "  ".join(
            pad(truncate(self._columns[i].heading, w), w, self._columns[i].align)
            for i, w in zip(self._laid.columns, self._laid.widths, strict=True)
        )
        return self._strip([Segment(text, style)], columns)

    def _row_strip(self, index: int, columns: int) -> Strip:
        row = self._rows[index]
        on_cursor = index == self.cursor
        segments = [Segment(f"{row.mark} ", self._tone("note"))]
        for n, (i, w) in enumerate(zip(self._laid.columns, self._laid.widths, strict=True)):
            cell = row.cells[i]
            style = self._tone(cell.tone)
            if cell.level:
                style = heat(self.look).nine(cell.level)
            if n == 0 and on_cursor:
                name = "rows--cursor" if self.has_focus else "rows--resting"
                style = style + self.get_component_rich_style(name, partial=True)
            text = pad(truncate(cell.text, w), w, self._columns[i].align)
            blank = width(text) - width(text.lstrip()) if cell.level else 0
            if blank:  # heat lies behind the number alone
                segments.append(Segment(text[:blank], self.rich_style))
                text = text[blank:]
            segments.append(Segment(text, style))
            segments.append(Segment("  ", self.rich_style))
        return self._strip(segments, columns)

    def _strip(self, segments: list[Segment], columns: int) -> Strip:
        return Strip(segments).adjust_cell_length(columns, self.rich_style)

    def _tone(self, tone: Tone) -> Style:
        if tone == "plain":
            return self.rich_style
        return self.get_component_rich_style(f"rows--{tone}")

    def _repaint(self, index: int, *, whole: bool = True) -> None:
        y = index + 1 - round(self.scroll_offset.y)
        if 1 <= y < self.size.height:
            columns = self.size.width if whole else 2 + (self._laid.widths or [0])[0]
            self.refresh(Region(0, y, columns, 1))

    # ------------------------------------------------------------------------------------ cursor

    def _set_cursor(self, index: int) -> None:
        before, self.cursor = self.cursor, index
        self._repaint(before, whole=False)
        self._repaint(index, whole=False)
        self._keep_in_sight()

    def _keep_in_sight(self) -> None:
        height = max(1, self.size.height - 1)
        top = round(self.scroll_offset.y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, force=True)

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
        index = event.y - 1 + round(self.scroll_offset.y)
        if event.y == 0 or not 0 <= index < len(self._rows):
            return
        if index == self.cursor:
            self.action_choose()
        else:
            self._move_to(index)

    def on_focus(self) -> None:
        """Show which table has the keys."""
        self._repaint(self.cursor, whole=False)

    def on_blur(self) -> None:
        """Show that this one has not."""
        self._repaint(self.cursor, whole=False)

"""Many short texts under headings, each token on the colour of its number: one list to scroll.

The cursor goes from passage to passage with up and down and from token to token with left and
right; moving it repaints two tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from circuit_client.render.heat import Scale
from circuit_client.render.text_width import truncate
from circuit_tui.keys import bindings
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, heat, selected
from circuit_tui.paint.tokens import TokenText, lay_out
from circuit_tui.views.passages import Passage

_INDENT = 2


@dataclass(slots=True)
class _Laid:
    texts: list[TokenText] = field(default_factory=list)
    levels: list[NDArray[np.int16]] = field(default_factory=list)
    #: For each line: the passage and its row; row -1 is its heading, -2 its group's, -3 is blank.
    lines: list[tuple[int, int]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)


class Passages(ScrollView, can_focus=True):
    """Shows passages on one scale."""

    DEFAULT_CSS = """
    Passages { height: 1fr; overflow-x: hidden; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("passages"))
    look: reactive[Look] = reactive(Look(), init=False)

    @dataclass
    class Moved(Message):
        """The cursor is on a token."""

        widget: "Passages"
        passage: int
        token: int

    def __init__(self, *, look: Look, id: str | None = None) -> None:
        super().__init__(id=id, classes="painted")
        self.set_reactive(Passages.look, look)
        self._passages: Sequence[Passage] = ()
        self._scale = Scale("diverging", 0.0)
        self._empty = ""
        self._laid = _Laid()
        self.cursor = (0, 0)

    def show(self, passages: Sequence[Passage], scale: Scale, *, empty: str = "") -> None:
        """Show others."""
        self._passages, self._scale, self._empty = passages, scale, empty
        n, token = self.cursor
        if n >= len(passages) or token >= len(passages[n].tokens):
            self.cursor = (0, 0)
        self._lay()
        self.refresh()

    @property
    def passages(self) -> Sequence[Passage]:
        """What is shown."""
        return self._passages

    # ------------------------------------------------------------------------------------- layout

    def on_resize(self) -> None:
        """Wrap anew."""
        self._lay()

    def watch_look(self) -> None:
        """Other colours."""
        self._lay()
        self.refresh()

    def _lay(self) -> None:
        columns = max(8, self.scrollable_content_region.width - _INDENT)
        colors, laid = heat(self.look), _Laid()
        for n, passage in enumerate(self._passages):
            levels = colors.levels_of(passage.values, self._scale)
            suffixes = None
            if self.look.few_colors:
                signed = self._scale.kind == "diverging"
                suffixes = [colors.sign(level, signed=signed) for level in levels.tolist()]
            frames = {} if passage.framed is None else {
                passage.framed: glyphs(self.look).strongest
            }  # fmt: skip
            text = lay_out(passage.tokens, columns, ascii_only=self.look.ascii_only,
                           suffixes=suffixes, frames=frames)  # fmt: skip
            if passage.group:
                laid.lines += [(n, -3), (n, -2)] if n else [(n, -2)]
            laid.first.append(len(laid.lines))
            if passage.heading:
                laid.lines.append((n, -1))
            laid.lines += [(n, row) for row in range(text.rows)]
            laid.texts.append(text)
            laid.levels.append(levels)
        self._laid = laid
        self.virtual_size = Size(self.size.width, len(laid.lines))

    # ------------------------------------------------------------------------------------- lines

    def render_line(self, y: int) -> Strip:
        """A heading or some tokens."""
        columns, at = self.size.width, y + round(self.scroll_offset.y)
        if not self._passages and y == 1:
            text = truncate(f"  {self._empty}", columns)
            return Strip([Segment(text, dim(self.look))]).adjust_cell_length(
                columns, self.rich_style
            )
        if at >= len(self._laid.lines):
            return Strip.blank(columns, self.rich_style)
        n, row = self._laid.lines[at]
        passage = self._passages[n]
        if row < 0:
            text = {-1: f" {passage.heading}", -2: f" {passage.group}"}.get(row, "")
            style = Style(bold=True) if row == -2 else dim(self.look)
            segments = [Segment(truncate(text, columns), style)]
        else:
            segments = [Segment(" " * _INDENT)]
            for placed in self._laid.texts[n].line(row):
                style = heat(self.look).background(int(self._laid.levels[n][placed.index]))
                if placed.index == passage.framed:
                    style += Style(bold=True)
                if (n, placed.index) == self.cursor:
                    style += (
                        selected(self.look) if self.has_focus else Style(underline=True, bold=True)
                    )
                segments.append(Segment(placed.text, style))
        strip = Strip(segments).apply_style(self.rich_style)
        return strip.adjust_cell_length(columns, self.rich_style)

    # ------------------------------------------------------------------------------------- cursor

    def action_step(self, by: int) -> None:
        """The next token; at a passage's end, the next passage."""
        n, token = self.cursor
        token += by
        while self._passages:
            if token < 0:
                if n == 0:
                    return
                n -= 1
                token = len(self._passages[n].tokens) - 1
            elif token >= len(self._passages[n].tokens):
                if n == len(self._passages) - 1:
                    return
                n, token = n + 1, 0
            else:
                self._go(n, token)
                return

    def action_step_line(self, by: int) -> None:
        """A line of tokens further down or up."""
        if not self._passages:
            return
        n, token = self.cursor
        placed = self._laid.texts[n].placed[token] if self._laid.texts[n].placed else None
        row, column = (placed.row, placed.column) if placed else (0, 0)
        lines = [i for i, (_, r) in enumerate(self._laid.lines) if r >= 0]
        here = lines.index(self._laid.lines.index((n, row))) if (n, row) in self._laid.lines else 0
        m, r = self._laid.lines[lines[max(0, min(len(lines) - 1, here + by))]]
        nearest = self._laid.texts[m].nearest(r, column)
        if nearest is not None:
            self._go(m, nearest)

    def action_page(self, by: int) -> None:
        """A screenful."""
        self.action_step_line(by * max(1, self.size.height - 2))

    def _go(self, n: int, token: int) -> None:
        before, self.cursor = self.cursor, (n, token)
        for place in (before, self.cursor):
            self._refresh_token(*place)
        line = self._line_of(n, token)
        if line is not None:
            self.scroll_to_region(Region(0, line, 1, 1), animate=False, force=True)
        self.post_message(self.Moved(self, n, token))

    def _line_of(self, n: int, token: int) -> int | None:
        if n >= len(self._laid.texts) or token >= len(self._laid.texts[n].placed):
            return None
        heading = 1 if self._passages[n].heading else 0
        return self._laid.first[n] + heading + self._laid.texts[n].placed[token].row

    def _refresh_token(self, n: int, token: int) -> None:
        line = self._line_of(n, token)
        if line is not None:
            placed = self._laid.texts[n].placed[token]
            y = line - round(self.scroll_offset.y)
            self.refresh(Region(_INDENT + placed.column, y, placed.columns, 1))

    def on_click(self, event: events.Click) -> None:
        """To the token that was clicked."""
        at = event.y + round(self.scroll_offset.y)
        if at < len(self._laid.lines):
            n, row = self._laid.lines[at]
            token = self._laid.texts[n].at(row, event.x - _INDENT) if row >= 0 else None
            if token is not None:
                self._go(n, token)

    def on_focus(self) -> None:
        """The cursor stands out."""
        self._refresh_token(*self.cursor)

    def on_blur(self) -> None:
        """It is only marked."""
        self._refresh_token(*self.cursor)

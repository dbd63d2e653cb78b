"""Tokens in running text, each on the colour of its number: scrolled, with a cursor.

State is tokens and an array of numbers; a line is made when it is asked for, and moving the cursor
refreshes two tokens. The strongest token is framed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from circuit_client.render.heat import Scale, scale_for
from circuit_tui.keys import bindings
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import heat, selected
from circuit_tui.paint.tokens import TokenText, lay_out


def strongest_token(values: NDArray[np.float32]) -> int | None:
    """Index of the largest finite magnitude, the first of equal ones; None if all are zero."""
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    return int(size.argmax()) if size.any() else None


class TokenHeat(ScrollView, can_focus=True):
    """Shows tokens and a number for each; `Moved` says where the cursor went.

    Numbers may be NaN: such a token has none and stays as it is. Zero-centred, colours are
    two-sided around zero; otherwise they run from zero to the largest, and what is negative has no
    colour.
    """

    # The gutter is stable, or text that begins to scroll would have to be wrapped anew.
    DEFAULT_CSS = """
    TokenHeat {
        width: 1fr;
        height: 1fr;
        overflow-x: hidden;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = list(bindings("tokens"))

    look: reactive[Look] = reactive(Look(), init=False)
    zero_centred: reactive[bool] = reactive(True, init=False)

    @dataclass
    class Moved(Message):
        """The cursor is on another token, or the same was chosen again (`chosen`)."""

        widget: "TokenHeat"
        token: int
        chosen: bool = False

    @dataclass
    class ScaleChanged(Message):
        """The colours mean something else now."""

        widget: "TokenHeat"
        scale: Scale

    def __init__(
        self,
        *,
        look: Look | None = None,
        zero_centred: bool = True,
        unit: str = "",
        framed: bool = True,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=f"painted {classes or ''}")
        if look is not None:
            self.set_reactive(TokenHeat.look, look)
        self.set_reactive(TokenHeat.zero_centred, zero_centred)
        self._unit = unit
        self._framed = framed
        self._tokens: Sequence[bytes] = ()
        self._values: NDArray[np.float32] = np.zeros(0, np.float32)
        self._fixed_scale: Scale | None = None
        self._scale = Scale("diverging", 0.0, unit)
        self._levels: NDArray[np.int16] = np.zeros(0, np.int16)
        self._strongest: int | None = None
        self._text = TokenText(1, (), ())
        self._laid_out_for: object = None
        self._cursor: int | None = None

    # ------------------------------------------------------------------------------ what is shown

    def show(
        self,
        tokens: Sequence[bytes],
        values: ArrayLike | None = None,
        *,
        scale: Scale | None = None,
        unit: str | None = None,
    ) -> None:
        """Show other tokens or numbers; `scale` holds over the zero-centre choice while given.

        The cursor stays where it is as long as there is a token.
        """
        numbers = (
            np.full(len(tokens), np.nan, np.float32)
            if values is None
            else np.asarray(values, np.float32)
        )
        if numbers.shape != (len(tokens),):
            raise ValueError(f"{len(tokens)} tokens need as many numbers, not {numbers.shape}")
        self._tokens, self._values = tuple(tokens), numbers
        self._fixed_scale = scale
        if unit is not None:
            self._unit = unit
        if self._cursor is not None and self._cursor >= len(tokens):
            self._cursor = len(tokens) - 1 if len(tokens) else None
        self._rescale()

    @property
    def scale(self) -> Scale:
        """What the colours mean."""
        return self._scale

    @property
    def tokens(self) -> Sequence[bytes]:
        """The tokens shown."""
        return self._tokens

    @property
    def values(self) -> NDArray[np.float32]:
        """Their numbers."""
        return self._values

    @property
    def cursor(self) -> int | None:
        """Index of the token under the cursor."""
        return self._cursor

    @property
    def strongest(self) -> int | None:
        """Index of the framed token."""
        return self._strongest

    def select(self, token: int | None) -> None:
        """Move the cursor to a token (moved into the text) and scroll to see it."""
        if not self._tokens:
            token = None
        if token is not None:
            token = max(0, min(len(self._tokens) - 1, token))
        before, self._cursor = self._cursor, token
        if before == token:
            return
        for index in (before, token):
            if index is not None:
                self._refresh_token(index)
        self._scroll_to_cursor()

    def step(self, by: int) -> None:
        """The token so many further on, and say so."""
        self._go(0 if self._cursor is None else self._cursor + by)

    def step_line(self, by: int) -> None:
        """The nearest token so many lines further down, and say so."""
        if not self._text.placed:
            return
        if self._cursor is None:
            self._go(0)
            return
        placed = self._text.placed[self._cursor]
        token = self._text.nearest(placed.row + by, placed.column)
        if token is not None:
            self._go(token)

    def _go(self, token: int) -> None:
        before = self._cursor
        self.select(token)
        if self._cursor is not None and self._cursor != before:
            self.post_message(self.Moved(self, self._cursor))

    def _scroll_to_cursor(self) -> None:
        if self._cursor is None or not self._text.placed:
            return
        row = self._text.placed[self._cursor].row
        if self.virtual_size.height > self.size.height and not self.max_scroll_y:
            # The text was shown a moment ago: nothing scrolls before it is laid out.
            self.call_after_refresh(self._scroll_to_cursor)
            return
        self.scroll_to_region(Region(0, row, 1, 1), animate=False, force=True, immediate=True)

    # ------------------------------------------------------------------------------------- layout

    def watch_look(self) -> None:
        """Other colours or signs."""
        self._rescale()

    def watch_zero_centred(self) -> None:
        """Another meaning of colours."""
        self._rescale()

    def on_resize(self, event: events.Resize) -> None:
        """Wrap anew where the width changed."""
        self._lay_out()

    def _rescale(self) -> None:
        kind: Literal["diverging", "sequential"] = (
            "diverging" if self.zero_centred else "sequential"
        )
        finite = self._values[np.isfinite(self._values)]
        reach = finite if self.zero_centred else np.maximum(finite, 0)
        scale = self._fixed_scale or scale_for(
            [float(np.abs(reach).max(initial=0.0))], kind, self._unit
        )
        self._levels = heat(self.look).levels_of(self._values, scale)
        self._strongest = strongest_token(self._values) if self._framed else None
        if scale != self._scale:
            self._scale = scale
            self.post_message(self.ScaleChanged(self, scale))
        self._lay_out()

    def _lay_out(self) -> None:
        columns = max(1, self.scrollable_content_region.width or self.size.width)
        suffixes = frames = None
        if self.look.few_colors:
            signed = self._scale.kind == "diverging"
            colors = heat(self.look)
            suffixes = [colors.sign(level, signed=signed) for level in self._levels.tolist()]
        if self._strongest is not None:
            frames = {self._strongest: glyphs(self.look).strongest}
        wanted = (self._tokens, columns, self.look, self._strongest, suffixes)
        if wanted != self._laid_out_for:
            self._text = lay_out(
                self._tokens,
                columns,
                ascii_only=self.look.ascii_only,
                suffixes=suffixes,
                frames=frames,
            )
            self._laid_out_for = wanted
            self.virtual_size = Size(columns, self._text.rows)
        self.refresh()

    def _refresh_token(self, token: int) -> None:
        if not self._text.placed:
            return
        placed = self._text.placed[token]
        x, y = self.scroll_offset
        region = Region(placed.column - x, placed.row - y, placed.columns, 1)
        self.refresh(region.translate(self.gutter.top_left))

    # ------------------------------------------------------------------------------------ drawing

    def render_line(self, y: int) -> Strip:
        """One line of tokens on their colours."""
        colors, cursor = heat(self.look), self._cursor
        segments: list[Segment] = []
        used = 0
        for placed in self._text.line(y + self.scroll_offset.y):
            style = colors.background(int(self._levels[placed.index]))
            if placed.index == self._strongest:
                style += Style(bold=True)
            if placed.index == cursor:
                style += selected(self.look) if self.has_focus else Style(underline=True, bold=True)
            segments.append(Segment(placed.text, style))
            used = placed.column + placed.columns
        strip = Strip(segments, used).apply_style(self.rich_style)
        return strip.extend_cell_length(self.size.width, self.rich_style)

    # ----------------------------------------------------------------------------- keys and mouse

    def action_step(self, by: int) -> None:
        """The token so many further on."""
        self.step(by)

    def action_step_line(self, by: int) -> None:
        """The token so many lines further down."""
        self.step_line(by)

    def action_zero_centred(self) -> None:
        """The other meaning of colours."""
        self.zero_centred = not self.zero_centred

    def on_focus(self, event: events.Focus) -> None:
        """The cursor stands out now."""
        if self._cursor is not None:
            self._refresh_token(self._cursor)

    def on_blur(self, event: events.Blur) -> None:
        """The cursor is only marked."""
        if self._cursor is not None:
            self._refresh_token(self._cursor)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the token that was clicked; a second time chooses it."""
        token = self._text.at(event.y + self.scroll_offset.y, event.x)
        if token is None:
            return
        again = token == self._cursor
        self.select(token)
        self.post_message(self.Moved(self, token, chosen=again))

    def token_at(self, x: int, y: int) -> int | None:
        """The token at a cell of the widget."""
        return self._text.at(y + self.scroll_offset.y, x)

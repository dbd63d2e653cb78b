"""Scroll bars of blanks alone, for terminals that have nothing but ASCII."""

from typing import ClassVar

from textual.scrollbar import ScrollBar, ScrollBarRender


class PlainBars(ScrollBarRender):
    """Bars whose ends are whole cells."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8
    BLANK_GLYPH: ClassVar[str] = " "


def use_plain_bars() -> None:
    """From now on, in this process."""
    ScrollBar.renderer = PlainBars

"""What a partial repaint costs on the wire: the changed cells, and of their styles what changes.

Textual's own rendering of a partial update begins each line at the left edge of its widget and says
every colour anew. Over SSH that is the difference between a graph in which one walks and one in
which one waits. Here a span is cut at both ends, and a colour is said when it differs from the one
before it. This is the one place that knows Textual's compositor from the inside.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate

_RESET: Final = "\x1b[0m"
#: Attributes that blanks show as well.
_VISIBLE_ON_BLANKS: Final = ("4", "7", "9", "21", "53")

#: Codes of foreground, background and attributes.
Codes = tuple[str, str, tuple[str, ...]]


class TightUpdate(ChopsUpdate):
    """A partial update in few bytes."""

    @classmethod
    def of(cls, update: ChopsUpdate) -> "TightUpdate":
        """The same update."""
        return cls(update.chops, update.spans, update.chop_ends)

    def render_segments(self, console: Console) -> str:
        """The escape sequences of the changed cells."""
        out: list[str] = []
        system = console._color_system
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= x2 or end <= x1:
                    continue
                begin = max(x, x1)
                part = strip.crop(begin - x, min(end, x2) - x)
                out.append(f"\x1b[{y + 1};{begin + 1}H")
                out.append(said(part, system))
        return "".join(out)


def said(segments: Iterable[Segment], system: ColorSystem | None) -> str:
    """Segments as text with escape codes, from the terminal's plain state back to it."""
    out: list[str] = []
    foreground = background = ""
    attributes: tuple[str, ...] = ()
    for text, style, control in segments:
        if control or not text:
            continue
        fg, bg, attrs = codes_of(style, system) if style else ("", "", ())
        if text.isspace() and not any(a in _VISIBLE_ON_BLANKS for a in attrs):
            # Nobody sees what colour a blank is written in.
            stays = (bg or not background) and not set(attributes) & set(_VISIBLE_ON_BLANKS)
            fg, attrs = (foreground, attributes) if stays else ("", ())
        changed: list[str] = []
        if set(attributes) - set(attrs) or (foreground and not fg) or (background and not bg):
            changed.append("0")
            changed += [*attrs, *(c for c in (fg, bg) if c)]
        else:
            changed += [a for a in attrs if a not in attributes]
            changed += [c for c, old in ((fg, foreground), (bg, background)) if c != old]
        if changed and changed != ["0"]:
            out.append(f"\x1b[{';'.join(changed)}m")
        elif changed and (foreground or background or attributes):
            out.append(_RESET)
        foreground, background, attributes = fg, bg, attrs
        out.append(text)
    if foreground or background or attributes:
        out.append(_RESET)
    return "".join(out)


@lru_cache(maxsize=4096)
def codes_of(style: Style, system: ColorSystem | None) -> Codes:
    """What a style is on a terminal of so many colours; nothing at all where there are none."""
    if system is None:
        return "", "", ()
    foreground, background = (
        ";".join(color.downgrade(system).get_ansi_codes(is_front)) if color is not None else ""
        for color, is_front in ((style.color, True), (style.bgcolor, False))
    )
    switches = {
        "1": style.bold, "2": style.dim, "3": style.italic, "4": style.underline,
        "5": style.blink, "7": style.reverse, "9": style.strike, "53": style.overline,
    }  # fmt: skip
    return foreground, background, tuple(code for code, is_on in switches.items() if is_on)

"""Styled text as values, and painting it for a terminal of any number of colours.

Whatever is shown is a list of lines, a line a tuple of spans; nothing knows about escape codes but
`paint`. A terminal UI turns the same spans into its own styles.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from circuit_client.render.text_width import width

RGB = tuple[int, int, int]
#: How many colours there are to use.
Depth = Literal["truecolor", "256", "16", "none"]
Theme = Literal["dark", "light"]

#: Names for what is not a heat colour; each has its code among the 16 basic colours.
Named = Literal["good", "bad", "note", "dim"]
_NAMED: dict[Named, str] = {"good": "32", "bad": "31", "note": "36", "dim": "2"}


@dataclass(frozen=True, slots=True)
class Span:
    """Text of one style. `background` is an exact colour, reduced to what the terminal has."""

    text: str
    color: Named | RGB | None = None
    background: RGB | None = None
    #: The background's code where there are only 16 colours, chosen by whoever knows its meaning.
    basic_background: int | None = None
    bold: bool = False
    underline: bool = False


Line = tuple[Span, ...]


def plain(text: str) -> Line:
    """A line without style."""
    return (Span(text),)


def line_width(line: Line) -> int:
    """Columns a line takes."""
    return sum(width(span.text) for span in line)


def detect_depth(
    environment: Mapping[str, str],
    *,
    is_terminal: bool,
    choice: Literal["auto", "always", "never", "truecolor", "256", "16"] = "auto",
) -> Depth:
    """How many colours to use: `choice`, else what the terminal says of itself.

    NO_COLOR and TERM=dumb mean none; COLORTERM=truecolor (lost over SSH) means all.
    """
    if choice in ("truecolor", "256", "16"):
        return choice
    if choice == "never":
        return "none"
    if choice == "auto" and (
        not is_terminal or environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
    ):
        return "none"
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "truecolor"
    term = environment.get("TERM", "")
    if "direct" in term:
        return "truecolor"
    if "256" in term or term.startswith(("xterm-kitty", "alacritty", "foot", "ghostty")):
        return "256"
    return "16"


def detect_theme(environment: Mapping[str, str]) -> Theme:
    """Whether the terminal's background is light: $CIRCUIT_THEME, else COLORFGBG, else dark."""
    chosen = environment.get("CIRCUIT_THEME")
    if chosen in ("dark", "light"):
        return "light" if chosen == "light" else "dark"
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if background in ("7", "15") else "dark"


def paint(lines: Iterable[Line], depth: Depth) -> str:
    """Lines as text with escape codes, each ended by a newline; no code at all at depth "none"."""
    return "".join("".join(_paint_span(span, depth) for span in line) + "\n" for line in lines)


def _paint_span(span: Span, depth: Depth) -> str:
    if depth == "none":
        return span.text
    codes: list[str] = []
    if span.bold:
        codes.append("1")
    if span.underline:
        codes.append("4")
    if isinstance(span.color, str):
        codes.append(_NAMED[span.color])
    elif span.color is not None and depth in ("truecolor", "256"):
        codes.append("38;" + _color(span.color, depth))
    if span.background is not None and depth in ("truecolor", "256"):
        codes.append("48;" + _color(span.background, depth))
    elif span.basic_background is not None and depth == "16":
        # Black or white letters, whichever stand out on the basic colour behind them.
        codes.append(f"{'97' if span.basic_background in (41, 44) else '30'}")
        codes.append(str(span.basic_background))
    if not codes or not span.text:
        return span.text
    return f"\x1b[{';'.join(codes)}m{span.text}\x1b[0m"


def _color(rgb: RGB, depth: Depth) -> str:
    if depth == "256":
        return f"5;{nearest_256(rgb)}"
    return f"2;{rgb[0]};{rgb[1]};{rgb[2]}"


_CUBE = (0, 95, 135, 175, 215, 255)


def nearest_256(rgb: RGB) -> int:
    """The number of the nearest of the 240 fixed colours of a 256-colour terminal."""
    steps = [min(range(6), key=lambda i: abs(_CUBE[i] - part)) for part in rgb]
    cube = tuple(_CUBE[i] for i in steps)
    level = max(0, min(23, round((sum(rgb) / 3 - 8) / 10)))
    grey = (8 + 10 * level,) * 3
    if _distance(grey, rgb) < _distance(cube, rgb):
        return 232 + level
    return 16 + 36 * steps[0] + 6 * steps[1] + steps[2]


def cube_color(number: int) -> RGB:
    """The colour that has this number, 16 to 231, on a 256-colour terminal."""
    steps = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return _CUBE[steps[0]], _CUBE[steps[1]], _CUBE[steps[2]]


def _distance(a: Iterable[int], b: Iterable[int]) -> int:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def letters_on(background: RGB) -> RGB:
    """Black or white, whichever has more contrast on `background` (WCAG's relative luminance)."""
    linear = [
        c / 12.92 if (c := part / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for part in background
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)

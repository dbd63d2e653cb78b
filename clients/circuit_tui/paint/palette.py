"""From numbers to colours that stay apart on every terminal: heat, and the hues of series.

Heat has a level from -n to n: blue below zero, orange above it, which colour-blind eyes tell apart,
and nothing at zero. There are as many levels as the terminal can show differently. Every colour is
given as the exact RGB that a terminal of this depth has, so that Rich and Textual, which round
colours themselves, have nothing left to round. Where colours are few a level also has a sign and a
digit, the same at every depth.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.color import Color
from rich.style import Style

from circuit_client.export.colors import ramp_color
from circuit_client.render.heat import LEVELS, Scale, digits, level_color
from circuit_client.render.style import RGB, Depth, Theme, cube_color, letters_on
from circuit_tui.paint.look import Look

#: The sixteen colours by their numbers, as Rich knows them: it rounds each of these to itself.
BASIC: tuple[RGB, ...] = (
    (0, 0, 0),
    (170, 0, 0),
    (0, 170, 0),
    (170, 85, 0),
    (0, 0, 170),
    (170, 0, 170),
    (0, 170, 170),
    (170, 170, 170),
    (85, 85, 85),
    (255, 85, 85),
    (85, 255, 85),
    (255, 255, 85),
    (85, 85, 255),
    (255, 85, 255),
    (85, 255, 255),
    (255, 255, 255),
)
_BLACK, _RED, _BROWN, _BLUE, _CYAN, _WHITE = (BASIC[i] for i in (0, 1, 3, 4, 6, 15))

#: Hues of series and other things without an order, each told apart by a mark as well.
_HUES: dict[Depth, dict[Theme, tuple[RGB, ...]]] = {
    "truecolor": {
        "dark": (
            (86, 180, 233),
            (240, 160, 75),
            (80, 200, 140),
            (214, 132, 200),
            (240, 228, 100),
            (150, 150, 255),
        ),
        "light": (
            (0, 95, 160),
            (180, 83, 9),
            (0, 120, 85),
            (160, 50, 130),
            (120, 105, 0),
            (85, 70, 190),
        ),
    },
    "256": {
        "dark": tuple(cube_color(n) for n in (75, 215, 78, 176, 227, 141)),
        "light": tuple(cube_color(n) for n in (25, 130, 29, 127, 100, 62)),
    },
    "16": {
        "dark": tuple(BASIC[n] for n in (14, 11, 10, 13, 15, 12)),
        "light": tuple(BASIC[n] for n in (4, 1, 2, 5, 6, 8)),
    },
}
N_HUES = 6
_TRUECOLOR_LEVELS = 3 * LEVELS


@dataclass(frozen=True, slots=True)
class Heat:
    """Heat of one look: `levels` on each side of zero, and the styles of each.

    `backgrounds`, `letters`, `inks` are indexed by level + `levels`: text on the colour, text that
    has itself the colour, and the colour alone as RGB (None at zero and where there are none).
    """

    look: Look
    levels: int
    colors: tuple[RGB | None, ...]
    backgrounds: tuple[Style, ...]
    letters: tuple[Style, ...]

    def level(self, value: float, scale: Scale) -> int:
        """The level of one value; 0 for NaN."""
        return int(self.levels_of([value], scale)[0])

    def levels_of(self, values: ArrayLike, scale: Scale) -> NDArray[np.int16]:
        """Levels of many values, in their shape; NaN and what has no place on the scale are 0."""
        numbers = np.nan_to_num(np.asarray(values, np.float64), nan=0.0)
        if scale.limit <= 0:
            return np.zeros(numbers.shape, np.int16)
        shares = np.clip(numbers / scale.limit, 0.0 if scale.kind == "sequential" else -1.0, 1.0)
        return np.asarray(np.rint(shares * self.levels), np.int16)

    def color(self, level: int) -> RGB | None:
        """The colour of a level; None for none."""
        return self.colors[level + self.levels]

    def background(self, level: int) -> Style:
        """The style of text that lies on the colour of `level`."""
        return self.backgrounds[level + self.levels]

    def nine(self, level: int) -> Style:
        """The style of text on the colour of a level given in nine steps of each sign."""
        return self.background(level * self.levels // LEVELS)

    def letter(self, level: int) -> Style:
        """The style of text, lines and dots that have the colour of `level` themselves."""
        return self.letters[level + self.levels]

    def digit(self, level: int) -> int:
        """The level in nine steps of each sign, as it is written beside a colour."""
        step = -(-abs(level) * LEVELS // self.levels)
        return step if level > 0 else -step

    def sign(self, level: int, *, signed: bool) -> str:
        """The level in one or two characters: "⁺³", "+3"; nothing at zero."""
        return digits(self.digit(level), signed=signed, ascii_only=self.look.ascii_only)


@cache
def heat(look: Look) -> Heat:
    """The heat of a look: 27 levels a side in truecolor, nine elsewhere."""
    n = _TRUECOLOR_LEVELS if look.depth == "truecolor" else LEVELS
    colors = tuple(_heat_color(level, n, look) for level in range(-n, n + 1))
    return Heat(
        look,
        n,
        colors,
        tuple(_background(i - n, color, n, look) for i, color in enumerate(colors)),
        tuple(_letter(level, n, look) for level in range(-n, n + 1)),
    )


def _heat_color(level: int, n: int, look: Look) -> RGB | None:
    if level == 0 or look.depth == "none":
        return None
    if look.depth == "truecolor":
        return ramp_color(level, look.theme, n)
    if look.depth == "256":
        return level_color(level, look.theme)
    if abs(level) <= LEVELS // 2:
        return _BROWN if level > 0 else _CYAN
    return _RED if level > 0 else _BLUE


def _background(level: int, color: RGB | None, n: int, look: Look) -> Style:
    if color is not None:
        letters = letters_on(color)
        if look.depth == "16":
            letters = _WHITE if color in (_RED, _BLUE) else _BLACK
        return Style(color=Color.from_rgb(*letters), bgcolor=Color.from_rgb(*color))
    return Style(bold=True) if abs(level) * 2 > n else Style()


def _letter(level: int, n: int, look: Look) -> Style:
    bold = abs(level) * 4 > 3 * n or None
    if look.depth == "none":
        return Style(bold=bold)
    if level == 0:
        return dim(look)
    # What is weak as a background is close to it, and would not be seen as a thin line: letters and
    # lines begin a third up the ramp.
    lifted = -(-(n + 2 * abs(level)) // 3) * (1 if level > 0 else -1)
    color = _heat_color(lifted, n, look)
    if look.depth == "16":
        weak = abs(level) * 2 <= n
        bright = look.theme == "dark"
        numbers = (
            (3 if weak else 9 if bright else 1)
            if level > 0
            else (6 if weak else 12 if bright else 4)
        )
        color = BASIC[numbers]
    assert color is not None
    return Style(color=Color.from_rgb(*color), bold=bold)


@cache
def dim(look: Look) -> Style:
    """What is there but says nothing at the moment: axes, hairlines, captions.

    A colour of its own rather than the terminal's faint, which some show as nothing and some as
    plain.
    """
    if look.depth == "none":
        return Style()
    shades: dict[Theme, dict[str, RGB]] = {
        "dark": {"truecolor": (118, 126, 134), "256": (128, 128, 128), "16": BASIC[8]},
        "light": {"truecolor": (105, 112, 120), "256": (108, 108, 108), "16": BASIC[8]},
    }
    return Style(color=Color.from_rgb(*shades[look.theme][look.depth]))


@cache
def hue(look: Look, number: int) -> Style:
    """The letters of series `number`; after the sixth they begin again, and marks differ."""
    if look.depth == "none":
        return Style(bold=number % 2 == 1 or None)
    return Style(color=Color.from_rgb(*_HUES[look.depth][look.theme][number % N_HUES]))


@cache
def selected(look: Look) -> Style:
    """What lies under the cursor: reverse where nothing else is certain to be seen."""
    if look.few_colors:
        return Style(reverse=True)
    paper, ink = (
        ((20, 23, 26), (255, 255, 255))
        if look.theme == "dark"
        else (
            (255, 255, 255),
            (20, 20, 20),
        )
    )
    return Style(color=Color.from_rgb(*paper), bgcolor=Color.from_rgb(*ink), bold=True)

"""Tokens coloured by a number each: heatmaps of losses and activations, with their legend.

A diverging scale is centred on zero and as far reaching on both sides, so that a colour means the
same everywhere; a sequential one begins at zero. Where colours are few, each token also carries its
level as a sign and a digit, so that nothing is said by colour alone. The strongest token is framed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from circuit_client.render.style import RGB, Depth, Line, Span, Theme, cube_color, letters_on
from circuit_client.render.text_width import shown_bytes, width

#: Colour steps on each side of zero.
LEVELS = 9

# The ramps, weakest first, as numbers of the 256-colour palette, so that no two levels are the same
# where there are no more colours. A weak value lies near the background and a strong one
# stands out from it, so dark and light terminals need different ramps; blue against orange stays
# apart for colour-blind eyes.
_RAMPS: dict[Theme, dict[int, tuple[int, ...]]] = {
    "dark": {
        +1: (52, 88, 94, 130, 166, 172, 208, 214, 220),
        -1: (17, 18, 24, 25, 31, 32, 38, 39, 45),
    },
    "light": {
        +1: (223, 222, 216, 215, 209, 208, 202, 166, 130),
        -1: (189, 153, 117, 111, 75, 69, 33, 27, 21),
    },
}
_SUPERSCRIPTS = str.maketrans("+-0123456789", "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Scale:
    """What colours mean: `kind` and the value (in `unit`) of the strongest colour."""

    kind: Literal["diverging", "sequential"]
    limit: float
    unit: str = ""

    def level(self, value: float) -> int:
        """From -LEVELS to LEVELS, clipped at the limit; 0 is what no colour shows."""
        if math.isnan(value) or self.limit <= 0:
            return 0
        if self.kind == "sequential":
            value = max(0.0, value)
        share = max(-1.0, min(1.0, value / self.limit))
        return int(math.copysign(round(abs(share) * LEVELS), share))


def scale_for(
    values: Sequence[float], kind: Literal["diverging", "sequential"], unit: str = ""
) -> Scale:
    """The scale on which the largest finite magnitude of `values` has the strongest colour."""
    finite = [abs(v) for v in values if math.isfinite(v)]
    return Scale(kind, max(finite, default=0.0), unit)


def level_color(level: int, theme: Theme) -> RGB | None:
    """The background of a level; None for level 0, which stays as the terminal is."""
    if level == 0:
        return None
    return cube_color(_RAMPS[theme][1 if level > 0 else -1][abs(level) - 1])


def heat_span(text: str, level: int, theme: Theme, *, strongest: bool = False) -> Span:
    """`text` on the colour of `level`."""
    background = level_color(level, theme)
    basic = None
    if level:
        weak = abs(level) <= LEVELS // 2
        basic = (43 if weak else 41) if level > 0 else (46 if weak else 44)
    return Span(
        text,
        color=None if background is None else letters_on(background),
        background=background,
        basic_background=basic,
        bold=strongest,
        underline=strongest,
    )


def digits(level: int, *, signed: bool, ascii_only: bool) -> str:
    """A level in characters, to stand beside a token: "⁺³", or "+3" in ASCII; nothing for 0."""
    if level == 0:
        return ""
    text = f"{level:+d}" if signed else str(level)
    return text if ascii_only else text.translate(_SUPERSCRIPTS)


def strongest(values: Sequence[float]) -> int | None:
    """Index of the largest finite magnitude; None if there is none, or all are zero."""
    finite = [(abs(v), -i) for i, v in enumerate(values) if math.isfinite(v)]
    if not finite or max(finite)[0] == 0.0:
        return None
    return -max(finite)[1]


def token_heatmap(
    tokens: Sequence[bytes],
    values: Sequence[float],
    scale: Scale,
    *,
    columns: int,
    depth: Depth,
    theme: Theme = "dark",
    ascii_only: bool = False,
    indent: int = 0,
) -> list[Line]:
    """Tokens in running text, each on its colour; lines end where the text's do, or are wrapped.

    `values` has one number per token; NaN leaves a token uncoloured (it has no target).
    """
    few_colors = depth in ("16", "none")
    framed = strongest(values)
    lines: list[Line] = []
    spans: list[Span] = []
    used = indent
    for i, (data, value) in enumerate(zip(tokens, values, strict=True)):
        level = scale.level(value)
        text = shown_bytes(data, ascii_only=ascii_only)
        if i == framed:
            text = f"[{text}]" if ascii_only else f"⟦{text}⟧"
        if few_colors:
            text += digits(level, signed=scale.kind == "diverging", ascii_only=ascii_only)
        if used + width(text) > columns and used > indent:
            lines.append((Span(" " * indent), *spans))
            spans, used = [], indent
        spans.append(heat_span(text, level, theme, strongest=i == framed))
        used += width(text)
        if data.endswith(b"\n"):
            lines.append((Span(" " * indent), *spans))
            spans, used = [], indent
    if spans:
        lines.append((Span(" " * indent), *spans))
    return lines


def legend(scale: Scale, *, depth: Depth, theme: Theme = "dark", ascii_only: bool = False) -> Line:
    """The scale itself: its colours in order, with the numbers at its ends and middle."""
    if scale.limit <= 0:
        return (Span(f"all zero{_unit(scale.unit)}", color="dim"),)
    lowest = -LEVELS if scale.kind == "diverging" else 0
    few_colors = depth in ("16", "none")
    cells: list[Span] = []
    for level in range(lowest, LEVELS + 1):
        if few_colors:
            if level % 3:
                continue
            mark = digits(level, signed=scale.kind == "diverging", ascii_only=ascii_only)
            cells.append(heat_span(f" {mark or '0'} ", level, theme))
        else:
            cells.append(heat_span(" · " if level == 0 and not ascii_only else "  ", level, theme))
    end = Span(f" {number(scale.limit)}{_unit(scale.unit)}", color="dim")
    begin = "0 " if scale.kind == "sequential" else f"-{number(scale.limit)} "
    return (Span(begin, color="dim"), *cells, end)


def number(value: float) -> str:
    """A number in few characters, three digits of it significant."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""

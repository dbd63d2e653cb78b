"""Curves as small plots in text: braille dots, two by four in each cell, or asterisks in ASCII.

What they are for: loss against the size of a circuit, and loss while pruning. Both axes may be
logarithmic; the ends of each axis say their numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from circuit_client.render.heat import number
from circuit_client.render.style import Line, Named, Span
from circuit_client.render.text_width import pad, truncate, width

#: Bits of a braille cell by row and column of its dots.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_COLORS: tuple[Named | None, ...] = (None, "note", "good", "bad")


@dataclass(frozen=True, slots=True)
class Curve:
    """Points to be joined in the order of x. `marked` draws a dot for each point alone."""

    name: str
    points: tuple[tuple[float, float], ...]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis counts, and whether by powers."""

    name: str
    log: bool = False


def plot(
    curves: Sequence[Curve], x: Axis, y: Axis, *, columns: int, rows: int = 8, ascii_only: bool
) -> list[Line]:
    """The curves on common axes, `rows` high and no wider than `columns`; [] without points.

    Points without a place on a logarithmic axis (zero and less), or not finite, are left out.
    """
    kept = [
        (i, curve, [p for p in curve.points if _drawable(p[0], x) and _drawable(p[1], y)])
        for i, curve in enumerate(curves)
    ]
    points = [p for _, _, some in kept for p in some]
    if not points:
        return []
    x_scale, y_scale = (_Scale.over([p[i] for p in points], axis) for i, axis in enumerate((x, y)))
    top, bottom = _end(y_scale.high), _end(y_scale.low)
    margin = max(len(top), len(bottom)) + 1
    grid = _Grid(max(8, columns - margin - 1), rows)
    for i, curve, some in kept:
        dots = [
            (
                round(x_scale.share(px) * (2 * grid.columns - 1)),
                round((1 - y_scale.share(py)) * (4 * rows - 1)),
            )
            for px, py in sorted(some)
        ]
        grid.draw(dots, i, joined=not curve.marked)
    bar = "|" if ascii_only else "│"
    lines: list[Line] = [_names(curves, y)]
    for r, spans in enumerate(grid.spans(ascii_only)):
        mark = top if r == 0 else bottom if r == rows - 1 else ""
        lines.append((Span(pad(mark, margin, "right") + bar, color="dim"), *spans))
    ends = _end(x_scale.low), _end(x_scale.high)
    middle = f"{x.name}{' (log)' if x.log else ''}"
    gap = grid.columns - sum(map(len, ends)) - width(middle)
    if gap < 2:
        middle, gap = "", grid.columns - sum(map(len, ends))
    foot = ends[0] + " " * max(1, gap // 2) + middle + " " * (gap - gap // 2) + ends[1]
    cut = truncate(foot, grid.columns, ellipsis="..." if ascii_only else "…")
    lines.append((Span(" " * (margin + 1) + cut, color="dim"),))
    return lines


def _end(value: float) -> str:
    """The number at an axis' end; whole ones are written out."""
    whole = float(value).is_integer() and abs(value) < 1e6
    return f"{value:,.0f}" if whole else number(value)


def _drawable(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _names(curves: Sequence[Curve], y: Axis) -> Line:
    spans = [Span(f"{y.name}{' (log)' if y.log else ''}", color="dim")]
    for i, curve in enumerate(curves if len(curves) > 1 else ()):
        spans.append(Span(f"  {curve.name}", color=_COLORS[i % len(_COLORS)]))
    return tuple(spans)


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a value to its share of an axis, 0 at the low end and 1 at the high one."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], axis: Axis) -> "_Scale":
        return cls(min(values), max(values), axis.log)

    def share(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return 0.5 if high <= low else (at - low) / (high - low)


class _Grid:
    """Cells of dots, each in the colour of the last curve that passed."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self._bits = [[0] * columns for _ in range(rows)]
        self._owner = [[0] * columns for _ in range(rows)]

    def draw(self, dots: Sequence[tuple[int, int]], owner: int, *, joined: bool) -> None:
        """Set the dots, and those on the way from each to the next if they are `joined`."""
        for x, y in dots:
            self._set(x, y, owner)
        for (x0, y0), (x1, y1) in pairwise(dots) if joined else ():
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for i in range(steps):
                self._set(
                    round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps), owner
                )

    def _set(self, x: int, y: int, owner: int) -> None:
        self._bits[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        self._owner[y // 4][x // 2] = owner

    def spans(self, ascii_only: bool) -> list[Line]:
        """Each row of cells, runs of one colour together."""
        lines: list[Line] = []
        for bits, owners in zip(self._bits, self._owner, strict=True):
            runs: list[tuple[int, str]] = []
            for b, owner in zip(bits, owners, strict=True):
                char = " " if not b else "*" if ascii_only else chr(0x2800 + b)
                if runs and (runs[-1][0] == owner or not b):
                    runs[-1] = (runs[-1][0], runs[-1][1] + char)
                else:
                    runs.append((owner, char))
            lines.append(tuple(Span(text, _COLORS[o % len(_COLORS)]) for o, text in runs))
        return lines

"""Lines and points as braille dots, two by four to a cell, from numpy; characters in ASCII.

Coordinates are in dots, x to the right and y downward; what lies outside is clipped. Of several
lines through one cell the last one given has its ink, so whoever draws sorts by importance.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuit_tui.canvas.cells import Cells

#: Dots of a cell.
DOTS_X, DOTS_Y = 2, 4
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_BRAILLE = 0x2800
#: What stands for a line in ASCII: nothing, flat, steep, rising, falling, a point.
_SHAPES = np.array([ord(c) for c in " -|/\\*"], np.uint32)
#: Points computed at once: bounds memory whatever is asked for.
_BATCH = 1 << 20


def clip_segments(
    segments: ArrayLike, width: float, height: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The parts of `segments` [N, 4] (x0, y0, x1, y1) within 0..width-1, 0..height-1.

    Returns them with the numbers of those that are left. Not finite ones are left out.
    """
    lines = np.asarray(segments, np.float64).reshape(-1, 4)
    start, way = lines[:, :2], lines[:, 2:] - lines[:, :2]
    enter, leave = np.zeros(len(lines)), np.ones(len(lines))
    inside = np.isfinite(lines).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for axis, size in ((0, width), (1, height)):
            at, step = start[:, axis], way[:, axis]
            still = step == 0
            inside &= ~still | ((at >= 0) & (at <= size - 1))
            a, b = -at / step, (size - 1 - at) / step
            enter = np.where(still, enter, np.maximum(enter, np.minimum(a, b)))
            leave = np.where(still, leave, np.minimum(leave, np.maximum(a, b)))
        kept = np.flatnonzero(inside & (enter <= leave))
        begin = start[kept] + way[kept] * enter[kept, None]
        end = start[kept] + way[kept] * leave[kept, None]
    return np.hstack([begin, end]), kept


class Traced(NamedTuple):
    """Points of a grid on segments, segment by segment: `x` and `y` [P], both within the grid.

    Segment `numbers[i]` has the next `counts[i]` of them.
    """

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    numbers: NDArray[np.intp]
    counts: NDArray[np.intp]


def trace(segments: ArrayLike, width: int, height: int) -> Traced:
    """The points of a grid of `width` by `height` on each segment, in order.

    Both ends are on it, neighbours touch, and a segment has exactly as many points as its longer
    side.
    """
    clipped, numbers = clip_segments(segments, width, height)
    ends = np.rint(clipped).astype(np.int32)
    way = ends[:, 2:] - ends[:, :2]
    steps = np.abs(way).max(axis=1, initial=0).astype(np.intp)
    counts = steps + 1
    first = (np.cumsum(counts) - counts).astype(np.int32)
    along = np.arange(int(counts.sum()), dtype=np.int32)
    along -= np.repeat(first, counts)
    # Fixed point, fifteen bits behind the point: one multiplication and one shift for each point.
    slopes = np.floor_divide(way.astype(np.int64) << 15, np.maximum(steps, 1)[:, None])
    x, y = (
        _along(ends[:, axis], slopes[:, axis].astype(np.int32), along, counts) for axis in (0, 1)
    )
    return Traced(x, y, numbers, counts)


def _along(
    start: NDArray[np.int32],
    slope: NDArray[np.int32],
    along: NDArray[np.int32],
    counts: NDArray[np.intp],
) -> NDArray[np.int32]:
    at = np.repeat(slope, counts)
    at *= along
    at += np.int32(1 << 14)
    at >>= np.int32(15)
    at += np.repeat(start, counts)
    return at


class Braille:
    """A raster of dots over `width` by `height` cells, with one ink to each cell."""

    __slots__ = ("_dots", "_inks", "_shapes", "ascii_only", "height", "width")

    def __init__(self, width: int, height: int, *, ascii_only: bool = False) -> None:
        self.width, self.height, self.ascii_only = width, height, ascii_only
        per_cell = (1, 1) if ascii_only else (DOTS_Y, DOTS_X)
        self._dots = np.zeros((height * per_cell[0], width * per_cell[1]), np.bool_)
        self._inks = np.zeros((height, width), np.uint16)
        # In ASCII a cell holds a character that leans as its line does.
        self._shapes = np.zeros((height, width), np.uint8)

    def lines(self, segments: ArrayLike, inks: ArrayLike = 0, thickness: ArrayLike = 1) -> None:
        """Draw segments [N, 4] in dots, each in its ink and 1 to 4 dots thick; later ones win."""
        lines = np.asarray(segments, np.float64).reshape(-1, 4)
        colors = np.broadcast_to(np.asarray(inks, np.uint16), len(lines))
        thick = np.broadcast_to(np.asarray(thickness, np.int64), len(lines))
        if self.ascii_only:
            self._draw(lines / (DOTS_X, DOTS_Y, DOTS_X, DOTS_Y), colors)
            return
        for extra in range(int(thick.max(initial=1))):
            some = thick > extra
            if not some.any():
                break
            self._draw(_beside(lines[some], extra), colors[some])

    def points(self, points: ArrayLike, inks: ArrayLike = 0) -> None:
        """Single dots [N, 2]."""
        dots = np.asarray(points, np.float64).reshape(-1, 2)
        self.lines(np.hstack([dots, dots]), inks)

    def onto(self, cells: Cells, x: int = 0, y: int = 0) -> None:
        """Put the cells that have a dot onto `cells`, the raster's corner at (x, y)."""
        if self.ascii_only:
            chars = _SHAPES[self._shapes]
            some = self._shapes > 0
        else:
            grid = self._dots.reshape(self.height, DOTS_Y, self.width, DOTS_X)
            bits = np.einsum("yaxb,ab->yx", grid, _BITS, dtype=np.uint8, casting="unsafe")
            chars, some = bits.astype(np.uint32) + _BRAILLE, bits > 0
        left, top = max(0, -x), max(0, -y)
        right, bottom = min(self.width, cells.width - x), min(self.height, cells.height - y)
        if right <= left or bottom <= top:
            return
        here = (slice(top, bottom), slice(left, right))
        there = (slice(y + top, y + bottom), slice(x + left, x + right))
        np.copyto(cells.chars[there], chars[here], where=some[here])
        np.copyto(cells.inks[there], self._inks[here], where=some[here])

    def _draw(self, lines: NDArray[np.float64], inks: NDArray[np.uint16]) -> None:
        height, width = self._dots.shape
        if not height or not width:
            return
        per_batch = max(1, _BATCH // max(width, height))
        for start in range(0, len(lines), per_batch):
            some = lines[start : start + per_batch]
            x, y, numbers, counts = trace(some, width, height)
            self._dots.reshape(-1)[y * np.int32(width) + x] = True
            if not self.ascii_only:
                x >>= np.int32(1)
                y >>= np.int32(2)
            cell = y * np.int32(self.width) + x
            colors = inks[start : start + per_batch][numbers]
            self._inks.reshape(-1)[cell] = np.repeat(colors, counts)
            if self.ascii_only:
                shapes = _leaning(some)[numbers]
                self._shapes.reshape(-1)[cell] = np.repeat(shapes, counts)


def _beside(lines: NDArray[np.float64], extra: int) -> NDArray[np.float64]:
    """`lines` moved across their direction: by 0, 1, -1, 2 dots for the first, second, … extra."""
    if not extra:
        return lines
    shift = (extra + 1) // 2 * (1 if extra % 2 else -1)
    steep = np.abs(lines[:, 3] - lines[:, 1]) > np.abs(lines[:, 2] - lines[:, 0])
    moved = lines.copy()
    moved[steep, 0] += shift
    moved[steep, 2] += shift
    moved[~steep, 1] += shift
    moved[~steep, 3] += shift
    return moved


def _leaning(lines: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Which of _SHAPES each line looks like; cells are twice as high as wide."""
    dx, dy = lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1]
    flat, steep = np.abs(dy) * 2 < np.abs(dx) * 0.8, np.abs(dx) < np.abs(dy) * 0.4
    shape = np.where(flat, 1, np.where(steep, 2, np.where((dx > 0) == (dy < 0), 3, 4)))
    return np.where((np.abs(dx) < 0.5) & (np.abs(dy) < 0.5), 5, shape).astype(np.uint8)

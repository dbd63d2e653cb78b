"""Which part of a plane a canvas shows: from places to dots and back, moved and magnified."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuit_tui.canvas.braille import DOTS_X, DOTS_Y

#: How far in and out one can go, in dots to a unit.
_MOST, _LEAST = 1e4, 1e-4


@dataclass(frozen=True, slots=True)
class Viewport:
    """The plane's point (left, top) lies in the upper left dot; a unit is scale_x by scale_y dots.

    The two scales differ where a picture is stretched to fill its room.
    """

    left: float = 0.0
    top: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0

    @classmethod
    def fitting(
        cls, points: ArrayLike, width: int, height: int, *, margin: int = 2, square: bool = False
    ) -> "Viewport":
        """All of `points` [N, 2] within `width` by `height` cells, `margin` cells kept free.

        `square` keeps a unit as wide as it is high; otherwise both directions fill the room.
        """
        places = np.asarray(points, np.float64).reshape(-1, 2)
        if not len(places):
            return cls()
        low, high = places.min(axis=0), places.max(axis=0)
        room = np.maximum(
            1, np.array([width * DOTS_X, height * DOTS_Y]) - 2 * margin * np.array([DOTS_X, DOTS_Y])
        )
        extent = high - low
        scales = np.where(extent > 0, (room - 1) / np.where(extent > 0, extent, 1), np.inf)
        if square or not np.isfinite(scales).all():
            known = scales[np.isfinite(scales)]
            scales = np.full(2, known.min() if len(known) else 1.0)
        scales = np.clip(scales, _LEAST, _MOST)
        middle = (low + high) / 2
        corner = middle - np.array([width * DOTS_X - 1, height * DOTS_Y - 1]) / 2 / scales
        return cls(float(corner[0]), float(corner[1]), float(scales[0]), float(scales[1]))

    def dots(self, points: ArrayLike) -> NDArray[np.float64]:
        """Where points [N, 2] of the plane are, in dots."""
        places = np.asarray(points, np.float64).reshape(-1, 2)
        return (places - (self.left, self.top)) * (self.scale_x, self.scale_y)

    def cells(self, points: ArrayLike) -> NDArray[np.int32]:
        """Columns and rows of the cells that points [N, 2] lie in (also outside the canvas)."""
        dots = np.clip(np.rint(self.dots(points)), -(2**30), 2**30)
        return np.floor_divide(dots, (DOTS_X, DOTS_Y)).astype(np.int32)

    def place(self, column: float, row: float) -> tuple[float, float]:
        """The point of the plane in the middle of a cell."""
        return (
            self.left + (column + 0.5) * DOTS_X / self.scale_x,
            self.top + (row + 0.5) * DOTS_Y / self.scale_y,
        )

    def panned(self, columns: float, rows: float) -> "Viewport":
        """Moved so that what was `columns` to the right and `rows` below comes to be here."""
        return replace(
            self,
            left=self.left + columns * DOTS_X / self.scale_x,
            top=self.top + rows * DOTS_Y / self.scale_y,
        )

    def zoomed(self, factor: float, column: float, row: float) -> "Viewport":
        """Magnified by `factor`; the point under the middle of the given cell stays there."""
        scale_x = min(_MOST, max(_LEAST, self.scale_x * factor))
        scale_y = min(_MOST, max(_LEAST, self.scale_y * factor))
        x, y = self.place(column, row)
        return Viewport(
            x - (column + 0.5) * DOTS_X / scale_x,
            y - (row + 0.5) * DOTS_Y / scale_y,
            scale_x,
            scale_y,
        )

    def moved_to_show(self, point: ArrayLike, width: int, height: int) -> "Viewport":
        """Moved as little as brings `point` two cells inside the canvas; unchanged if it is."""
        column, row = self.cells(np.asarray(point))[0].tolist()
        right = max(0, column - (width - 3)) if column > width - 3 else min(0, column - 2)
        down = max(0, row - (height - 3)) if row > height - 3 else min(0, row - 2)
        return self.panned(right, down) if right or down else self

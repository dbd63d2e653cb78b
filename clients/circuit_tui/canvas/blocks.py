"""A matrix as coloured half cells, or as digits where colours are few: pure drawing and scaling.

With enough colours each cell shows two rows of half blocks. Where there are few, an entry is a
digit, with its sign on a scale that has two. A matrix larger than its room is shown in part, or
summarised: a cell then stands for the entry of largest magnitude in its block.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style

from circuit_client.render.heat import Scale
from circuit_tui.canvas.cells import Cells, Inks
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.palette import Heat


@dataclass(frozen=True, slots=True)
class Grid:
    """How entries lie in cells: each is `columns` wide and takes `half_rows` halves of a row.

    `block` entries each way are summarised in one; (`first_row`, `first_column`) is the entry in
    the upper left corner, counted in blocks.
    """

    columns: int = 2
    half_rows: int = 1
    block: int = 1
    first_row: int = 0
    first_column: int = 0

    def entry_at(self, column: int, row: int) -> tuple[int, int]:
        """Row and column of the first entry whose block begins in the given cell's upper half."""
        return (
            (self.first_row + row * 2 // self.half_rows) * self.block,
            (self.first_column + column // self.columns) * self.block,
        )

    def visible(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of blocks that begin within so many cells."""
        return -(-height * 2 // self.half_rows), -(-width // self.columns)


def fewest_blocks(shape: tuple[int, int], width: int, height: int, grid: Grid) -> int:
    """The smallest block with which all of a matrix fits into the room."""
    rows, columns = grid.visible(width, height)
    return max(1, -(-shape[0] // max(1, rows)), -(-shape[1] // max(1, columns)))


def summarised(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Blocks of `block` by `block` entries, each as its entry of largest magnitude; NaN if all are.

    What is rare and strong must not vanish in a mean.
    """
    if block <= 1:
        return values
    rows, columns = (-(-n // block) for n in values.shape)
    padded = np.full((rows * block, columns * block), np.nan, np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, -1)
    size = np.where(np.isnan(blocks), -1.0, np.abs(blocks))
    return np.take_along_axis(blocks, size.argmax(axis=2)[..., None], axis=2)[..., 0]


def draw_half_blocks(
    cells: Cells,
    levels: NDArray[np.int16],
    grid: Grid,
    inks: Inks,
    heat: Heat,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Levels [R, C] (what is in view) as half blocks from cell `origin` (x, y) on."""
    x0, y0 = origin
    image = np.repeat(np.repeat(levels, grid.half_rows, axis=0), grid.columns, axis=1)
    if len(image) % 2:
        image = np.vstack([image, np.zeros((1, image.shape[1]), image.dtype)])
    image = image[: 2 * (cells.height - y0), : cells.width - x0]
    upper, lower = image[0::2], image[1::2]
    if not upper.size:
        return
    span = 2 * heat.levels + 1
    keys = (upper.astype(np.int32) + heat.levels) * span + lower + heat.levels
    kinds, where = np.unique(keys, return_inverse=True)
    chars, numbers = [], []
    for key in kinds.tolist():
        char, style = _half_block(key // span - heat.levels, key % span - heat.levels, heat)
        chars.append(ord(char))
        numbers.append(inks.number(style))
    here = (slice(y0, y0 + upper.shape[0]), slice(x0, x0 + upper.shape[1]))
    where = where.reshape(upper.shape)
    cells.chars[here] = np.array(chars, np.uint32)[where]
    cells.inks[here] = np.array(numbers, np.uint16)[where]


def draw_digits(
    cells: Cells,
    levels: NDArray[np.int16],
    grid: Grid,
    inks: Inks,
    heat: Heat,
    scale: Scale,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Levels [R, C] as digits on their colours, a row of cells for each row of entries."""
    x0, y0 = origin
    signed = scale.kind == "diverging"
    zero = "." if heat.look.ascii_only else "·"
    texts: dict[int, tuple[list[int], int]] = {}
    for level in np.unique(levels).tolist():
        digit = heat.digit(level)
        text = (f"{digit:+d}" if signed else str(digit)) if digit else zero
        chars = [ord(c) for c in text.rjust(grid.columns)[: grid.columns]]
        texts[level] = chars, inks.number(heat.background(level))
    for row in range(min(len(levels), cells.height - y0)):
        line = levels[row].tolist()
        chars = [c for level in line for c in texts[level][0]]
        numbers = [texts[level][1] for level in line for _ in range(grid.columns)]
        room = min(len(chars), cells.width - x0)
        if room > 0:
            cells.chars[y0 + row, x0 : x0 + room] = chars[:room]
            cells.inks[y0 + row, x0 : x0 + room] = numbers[:room]


def _half_block(upper: int, lower: int, heat: Heat) -> tuple[str, Style]:
    """The character and style of a cell of two halves; blank where both are zero."""
    above, below = heat.color(upper), heat.color(lower)
    if above is None and below is None:
        return " ", Style.null()
    if above == below and above is not None:
        return " ", Style(bgcolor=Color.from_rgb(*above))
    if above is None and below is not None:
        return glyphs(heat.look).lower_half, Style(color=Color.from_rgb(*below))
    assert above is not None
    style = Style(
        color=Color.from_rgb(*above), bgcolor=None if below is None else Color.from_rgb(*below)
    )
    return glyphs(heat.look).upper_half, style

"""A picture as two arrays, characters and inks, and which of its cells differ from another's.

Everything a canvas shows is drawn into `Cells`; a line of them becomes a strip for Textual, and two
pictures compared give the regions to refresh. Over SSH this is what keeps a moved cursor at a
hundred bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from circuit_client.render.text_width import char_width

#: Unchanged cells between two changed ones that are cheaper to send again than to jump over.
GAP = 6
_BLANK = ord(" ")
_ASCII_MAX = ord("~")
#: The second column of a wide character: drawn by the first.
_CONTINUED = 0


@dataclass(slots=True)
class Inks:
    """Styles by number. Number 0 is no style of its own; equal styles have one number."""

    styles: list[Style] = field(default_factory=lambda: [Style.null()])
    _numbers: dict[Style, int] = field(default_factory=dict)

    def number(self, style: Style) -> int:
        """The number of `style`, a new one the first time."""
        if not style:
            return 0
        known = self._numbers.get(style)
        if known is None:
            known = self._numbers[style] = len(self.styles)
            self.styles.append(style)
        return known


class Cells:
    """`height` by `width` cells: code points and numbers of inks, blank to begin with."""

    __slots__ = ("chars", "inks")

    def __init__(self, width: int, height: int) -> None:
        self.chars: NDArray[np.uint32] = np.full((max(0, height), max(0, width)), _BLANK, np.uint32)
        self.inks: NDArray[np.uint16] = np.zeros(self.chars.shape, np.uint16)

    @property
    def width(self) -> int:
        """Columns."""
        return self.chars.shape[1]

    @property
    def height(self) -> int:
        """Rows."""
        return self.chars.shape[0]

    def put(self, x: int, y: int, char: str, ink: int = 0) -> None:
        """One character of one column; nothing happens outside."""
        if 0 <= x < self.width and 0 <= y < self.height:
            self.chars[y, x] = ord(char)
            self.inks[y, x] = ink

    def text(self, x: int, y: int, text: str, ink: int = 0) -> int:
        """Printable `text` from (x, y) to the right, clipped; the columns it takes unclipped.

        A combining mark cannot have a cell: it is left out (`shown` gave it a circle to sit on).
        """
        at = x
        for char in text:
            columns = char_width(char)
            if columns == 0:
                continue
            if 0 <= y < self.height and at >= 0 and at + columns <= self.width:
                self.chars[y, at] = ord(char)
                self.chars[y, at + 1 : at + columns] = _CONTINUED
                self.inks[y, at : at + columns] = ink
            at += columns
        return at - x

    def paint(self, region: Region, ink: int) -> None:
        """Give the cells of a region an ink, whatever they show."""
        part = region.intersection(Region(0, 0, self.width, self.height))
        self.inks[part.y : part.bottom, part.x : part.right] = ink

    def to_ascii(self, twins: Mapping[str, str]) -> None:
        """Show `twins` of characters beyond ASCII, and question marks for what has none."""
        beyond = (self.chars > _ASCII_MAX) | (self.chars == _CONTINUED)
        for code in np.unique(self.chars[beyond]).tolist():
            twin = " " if code == _CONTINUED else twins.get(chr(code), "?")
            self.chars[self.chars == code] = ord(twin)

    def strip(self, y: int, inks: Inks) -> Strip:
        """Row `y` as segments, one for each run of one ink."""
        if not 0 <= y < self.height or not self.width:
            return Strip.blank(self.width)
        row, numbers = self.chars[y], self.inks[y]
        ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), self.width]
        styles = inks.styles
        text = _decoded(row)
        if not row.all():  # wide characters: what they continue in is no character of the text
            places = np.concatenate([[0], np.cumsum(row != _CONTINUED)]).tolist()
            cuts = [places[end] for end in ends]
        else:
            cuts = ends
        segments: list[Segment] = []
        start = 0
        for number, cut in zip(numbers[[0, *ends[:-1]]].tolist(), cuts, strict=True):
            segments.append(Segment(text[start:cut], styles[number]))
            start = cut
        return Strip(segments, self.width)

    def lines(self) -> list[str]:
        """The characters alone, row by row."""
        return [_decoded(row) for row in self.chars]


def _decoded(row: NDArray[np.uint32]) -> str:
    """The characters of a row of cells."""
    if not row.all():
        row = row[row != _CONTINUED]
    return row.astype("<u4", copy=False).tobytes().decode("utf-32-le")


def changed_regions(before: Cells | None, after: Cells) -> list[Region]:
    """Regions that hold every cell which differs, and little else; [] if none does.

    Each begins and ends with a changed cell in every row of it but for gaps of at most `GAP` cells;
    no two overlap. Pictures of different size differ everywhere.
    """
    if after.width == 0 or after.height == 0:
        return []
    if before is None or before.chars.shape != after.chars.shape:
        return [Region(0, 0, after.width, after.height)]
    different = (before.chars != after.chars) | (before.inks != after.inks)
    done: list[Region] = []
    open_runs: dict[tuple[int, int], Region] = {}
    for y in np.flatnonzero(different.any(axis=1)).tolist():
        still: dict[tuple[int, int], Region] = {}
        for start, end in _runs(different[y]):
            above = open_runs.pop((start, end), None)
            if above is not None and above.bottom == y:
                still[start, end] = Region(start, above.y, end - start, above.height + 1)
            else:
                if above is not None:
                    done.append(above)
                still[start, end] = Region(start, y, end - start, 1)
        done.extend(open_runs.values())
        open_runs = still
    return [*done, *open_runs.values()]


def _runs(different: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each run of changed cells in a row, small gaps bridged."""
    columns = np.flatnonzero(different)
    breaks = np.flatnonzero(np.diff(columns) > GAP + 1)
    starts = columns[np.r_[0, breaks + 1]]
    ends = columns[np.r_[breaks, len(columns) - 1]] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))

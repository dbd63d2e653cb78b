"""Tables as values: columns, rows, cells. `widgets.rows` shows them, tests and copies read them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from circuit_client.render.style import Named
from circuit_client.render.text_width import pad, width

Tone = Named | Literal["plain", "strong"]


@dataclass(frozen=True, slots=True)
class Cell:
    """Text and what it means. `level`, from -9 to 9, colours it on the scale of heat."""

    text: str
    tone: Tone = "plain"
    level: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column. One that may `shrink` gives up width where there is too little, down to `least`."""

    heading: str
    align: Literal["left", "right"] = "left"
    shrink: bool = False
    least: int = 10
    #: Left out where there is no room for it, rather than shortening others.
    optional: bool = False
    #: Where there is room, it is at least so wide: what stands beside it stays where it is.
    room: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A line: what it stands for, its cells, and a mark before it, one column wide."""

    key: str
    cells: tuple[Cell, ...]
    mark: str = " "


def as_text(columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """A table as plain text, for the clipboard and for files."""
    lines = [[c.heading for c in columns], *([cell.text for cell in row.cells] for row in rows)]
    widths = [max(width(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            pad(text, w, column.align)
            for text, w, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )

"""Tables and bars in text: columns as wide as what is in them, cut to the terminal's width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from circuit_client.render.style import Line, Span, line_width
from circuit_client.render.text_width import pad, truncate, width

_EIGHTHS = " ▏▎▍▌▋▊▉█"

#: A cell: text, or a span with a style.
Cell = str | Span


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading and alignment; one that may `shrink` gives up room where it is short."""

    heading: str
    align: Literal["left", "right"] = "left"
    shrink: bool = False


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, width_max: int
) -> list[Line]:
    """A heading line and one line per row, two blanks between columns."""
    cells = [[c if isinstance(c, Span) else Span(c) for c in row] for row in rows]
    widths = [
        max([width(column.heading), *(width(row[i].text) for row in cells)])
        for i, column in enumerate(columns)
    ]
    excess = sum(widths) + 2 * (len(widths) - 1) - width_max
    for i in sorted(range(len(widths)), key=lambda i: -widths[i]):
        if excess > 0 and columns[i].shrink:
            taken = min(excess, widths[i] - max(8, width(columns[i].heading)))
            widths[i] -= max(0, taken)
            excess -= max(0, taken)
    heading = [Span(column.heading, bold=True) for column in columns]
    return [_row(columns, widths, row) for row in (heading, *cells)]


def _row(columns: Sequence[Column], widths: Sequence[int], row: Sequence[Span]) -> Line:
    spans: list[Span] = []
    for i, (column, columns_wide, cell) in enumerate(zip(columns, widths, row, strict=True)):
        text = truncate(cell.text, columns_wide)
        last = i == len(columns) - 1
        text = text if last and column.align == "left" else pad(text, columns_wide, column.align)
        spans.append(_with_text(cell, text))
        if not last:
            spans.append(Span("  "))
    return tuple(spans)


def _with_text(span: Span, text: str) -> Span:
    return Span(
        text,
        span.color,
        span.background,
        span.basic_background,
        span.bold,
        span.underline,
    )


def bar(value: float, limit: float, columns: int, *, ascii_only: bool = False) -> str:
    """A bar as long as `value` is of `limit`, in eighths of a column; none for NaN or nothing."""
    if not math.isfinite(value) or limit <= 0 or value <= 0:
        return ""
    eighths = round(min(1.0, value / limit) * columns * 8)
    if ascii_only:
        return "#" * max(1, round(eighths / 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def two_sided_bar(value: float, limit: float, columns: int, *, ascii_only: bool = False) -> str:
    """A bar to the right of a middle line for positive values, to the left for negative ones."""
    half = max(1, (columns - 1) // 2)
    middle = "|" if ascii_only else "│"
    # Block characters grow from the left only, so a left-hand bar has whole columns.
    cells = round(min(1.0, abs(value) / limit) * half) if limit > 0 and math.isfinite(value) else 0
    left = ("#" if ascii_only else "█") * cells if value < 0 else ""
    right = bar(value, limit, half, ascii_only=ascii_only) if value > 0 else ""
    return pad(left, half, "right") + middle + right


def facts(pairs: Sequence[tuple[str, Cell]]) -> list[Line]:
    """Names and values below each other."""
    name_width = max((width(name) for name, _ in pairs), default=0)
    return [
        (Span(pad(name, name_width) + "  ", color="dim"), v if isinstance(v, Span) else Span(v))
        for name, v in pairs
    ]


def nbytes(n: float) -> str:
    """A number of bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"


def widest(lines: Sequence[Line]) -> int:
    """Columns the widest line takes."""
    return max(map(line_width, lines), default=0)

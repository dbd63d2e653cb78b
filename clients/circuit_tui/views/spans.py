"""The client's styled lines as cells: what the command line prints, a widget shows."""

from collections.abc import Iterable

from circuit_client.render.style import Line
from circuit_tui.views.table import Cell


def as_cells(lines: Iterable[Line]) -> list[list[Cell]]:
    """Lines of spans as lines of cells; of exact colours only the boldness is left."""
    return [
        [
            Cell(
                span.text,
                span.color if isinstance(span.color, str) else "strong" if span.bold else "plain",
            )
            for span in line
        ]
        for line in lines
    ]

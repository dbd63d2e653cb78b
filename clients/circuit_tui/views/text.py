"""The tables of the text page: what comes next, what is active, why one token and not another."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from circuit_client.graph import Graph
from circuit_client.render.heat import Scale, number, scale_for
from circuit_client.render.text_width import shown_bytes
from circuit_tui.trying import Tried, Why
from circuit_tui.views.table import Cell, Column, Row

NEXT_COLUMNS: Final = (
    Column("token"),
    Column("model", "right"),
    Column("circuit", "right", optional=True),
)
ACTIVE_COLUMNS: Final = (
    Column("node", shrink=True, least=14),
    Column("value", "right"),
    Column("delta", "right", optional=True),
)
WHY_COLUMNS: Final = (
    Column("node", shrink=True, least=14),
    Column("adds", "right"),
    Column("for", "right", optional=True),
    Column("against", "right", optional=True),
)
#: Nodes listed at most.
_N_NODES: Final = 200


def quoted(data: bytes, *, ascii_only: bool = False) -> str:
    """One token: visible, blanks at its ends too."""
    text = shown_bytes(data, ascii_only=ascii_only)
    blank = "_" if ascii_only else "␣"
    if text.startswith(" "):
        text = blank + text[1:]
    return text[:-1] + blank if text.endswith(" ") else text


def next_rows(
    tried: Tried,
    circuit: Tried | None,
    position: int,
    name: Callable[[int], bytes],
    *,
    ascii_only: bool = False,
) -> list[Row]:
    """The likeliest tokens after a position; the one that does follow is marked."""
    if not 0 <= position < len(tried.next_ids):
        return []
    follows = tried.tokens[position + 1] if position + 1 < len(tried.tokens) else None
    in_circuit: dict[int, float] = {}
    if circuit is not None and circuit.tokens == tried.tokens:
        pairs = zip(circuit.next_ids[position], circuit.next_probabilities[position], strict=True)
        in_circuit = {int(t): float(p) for t, p in pairs}
    rows: list[Row] = []
    of_model = zip(tried.next_ids[position], tried.next_probabilities[position], strict=True)
    listed = {int(t): float(p) for t, p in of_model}
    for token in [*listed, *(t for t in in_circuit if t not in listed)]:
        cells = (
            Cell(quoted(name(token), ascii_only=ascii_only)),
            Cell(f"{listed[token]:.1%}" if token in listed else "", "plain"),
            Cell(f"{in_circuit[token]:.1%}" if token in in_circuit else "", "dim"),
        )
        mark = ("*" if ascii_only else "◆") if token == follows else " "
        rows.append(Row(str(token), cells, mark))
    return rows


def active_rows(
    graph: Graph, values: NDArray[np.float32], deltas: Sequence[float | None]
) -> list[Row]:
    """The circuit's nodes by how far each is from zero here."""
    order = np.argsort(-np.abs(values), kind="stable")[:_N_NODES].tolist()
    scale = scale_for([float(np.abs(values).max(initial=0.0))], "diverging")
    return [
        Row(
            graph.nodes[i].name,
            (
                Cell(graph.nodes[i].name),
                Cell(number(float(values[i])), level=scale.level(float(values[i])) or None),
                Cell("" if deltas[i] is None else f"{deltas[i]:+z.3f}", "dim"),
            ),
        )
        for i in order
        if values[i]
    ]


def why_rows(graph: Graph, why: Why) -> list[Row]:
    """What each node adds to the one logit over the other, the strongest first."""
    scale: Scale = scale_for([r.added for r in why.reasons], "diverging")
    return [
        Row(
            graph.nodes[r.node].name,
            (
                Cell(graph.nodes[r.node].name),
                Cell(f"{r.added:+z.3f}", level=scale.level(r.added) or None),
                Cell(f"{-r.right_change:+z.3f}", "dim"),
                Cell(f"{-r.wrong_change:+z.3f}", "dim"),
            ),
        )
        for r in why.reasons[:_N_NODES]
        if abs(r.added) > 1e-6
    ]

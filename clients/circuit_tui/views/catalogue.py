"""The catalogue's tables: models with what they hold in memory, tasks, circuits."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from circuit_client.render.table import duration, nbytes
from circuit_client.render.text_width import shown
from circuit_protocol.circuits import CircuitSummary
from circuit_protocol.replies import ModelSummary, Resident, TaskSummary
from circuit_tui.views.table import Cell, Column, Row, Tone

MODEL_COLUMNS: Final = (
    Column("model", shrink=True, least=12),
    Column("memory", "right"),
    Column("disk", "right", optional=True),
    Column("layers", "right", optional=True),
    Column("nodes", "right", optional=True),
)
TASK_COLUMNS: Final = (Column("task", shrink=True, least=16), Column("circuits", "right"))
CIRCUIT_COLUMNS: Final = (
    Column("k", "right"),
    Column("task", shrink=True, least=12),
    Column("edges", "right"),
    Column("loss", "right"),
    Column("verdict", shrink=True, least=7),
    Column("held out", "right", optional=True),
    Column("acc", "right", optional=True),
    Column("sweep", optional=True),
    Column("found by", optional=True),
    Column("circuit", optional=True),
    Column("age", "right", optional=True),
)
#: Keys of the rows above the tasks.
ALL_TASKS: Final = "\0all"
RECENT: Final = "\0recent"

VERDICT_TONES: Final[dict[str | None, Tone]] = {
    "supported": "good",
    "not supported": "bad",
    "depends": "note",
}


def model_rows(
    models: Iterable[ModelSummary], resident: Iterable[Resident], *, chosen: str | None
) -> list[Row]:
    """Models: what they take in memory if they are there, and on disk."""
    held = {r.model: r for r in resident}
    rows: list[Row] = []
    for m in models:
        here = held.get(m.name)
        name = Cell(shown(m.name), "bad" if m.broken else "strong" if m.name == chosen else "plain")
        if m.broken:
            cells = (name, Cell("broken", "bad"), Cell(""), Cell(""), Cell(""))
        else:
            memory = Cell(nbytes(here.nbytes), "good") if here else Cell("-", "dim")
            cells = (
                name,
                memory,
                Cell(nbytes(m.nbytes_on_disk), "dim"),
                Cell(f"{m.n_layer}", "dim"),
                Cell(f"{m.n_nodes:,}", "dim"),
            )
        rows.append(Row(m.name, cells, "●" if here else " "))
    return rows


def task_rows(
    tasks: Sequence[TaskSummary], found: Iterable[CircuitSummary], *, n_recent: int
) -> list[Row]:
    """Tasks and how many circuits there are of each; above them, all and the recent ones."""
    counts: dict[str, int] = {}
    for s in found:
        counts[s.task] = counts.get(s.task, 0) + 1
    total = sum(counts.values())
    rows = [Row(ALL_TASKS, (Cell("all tasks", "strong"), Cell(f"{total}")))]
    if n_recent:
        rows.append(Row(RECENT, (Cell("recently opened", "strong"), Cell(f"{n_recent}"))))
    known = [t.name for t in tasks]
    names = [*known, *(name for name in counts if name not in known)]
    for name in sorted(names, key=lambda n: (n not in counts, n)):
        n = counts.get(name, 0)
        tone: Tone = "plain" if n else "dim"
        rows.append(Row(name, (Cell(shown(name), tone), Cell(str(n) if n else "-", tone))))
    return rows


def circuit_rows(found: Iterable[CircuitSummary], *, now_s: float | None = None) -> list[Row]:
    """Circuits, with sizes, losses in nats per side and verdicts."""
    now_s = time.time() if now_s is None else now_s
    return [_circuit_row(s, now_s) for s in found]


def _circuit_row(s: CircuitSummary, now_s: float) -> Row:
    m = s.measured
    if s.broken is not None:
        cells = (
            *(Cell("?", "bad"), Cell(shown(s.task)), Cell(""), Cell("")),
            *(Cell("broken", "bad"), Cell(""), Cell(""), Cell(shown(s.sweep))),
            *(Cell(""), Cell(s.id[:8], "dim"), Cell("")),
        )
        return Row(s.id, cells)
    held_out = "" if m.held_out_loss is None else f"{m.held_out_loss:.3f}"
    age = duration(max(0.0, now_s - s.created_at_s)) if s.created_at_s else ""
    return Row(
        s.id,
        (
            Cell(f"{m.k:,}", "strong"),
            Cell(shown(s.task)),
            Cell(f"{m.n_edges:,}"),
            Cell(f"{m.loss:.3f}"),
            Cell(s.verdict or "unverified", VERDICT_TONES.get(s.verdict, "dim")),
            Cell(held_out),
            Cell(f"{m.accuracy:.1%}"),
            Cell(shown(s.sweep), "dim"),
            Cell(shown(s.origin), "dim"),
            Cell(s.id[:8], "dim"),
            Cell(age, "dim"),
        ),
    )


def matching(found: Iterable[CircuitSummary], words: str) -> list[CircuitSummary]:
    """The circuits in whose names all of `words` occur."""
    wanted = words.lower().split()
    return [
        s
        for s in found
        if all(
            w in f"{s.task} {s.sweep}/{s.label} {s.model} {s.id} {s.verdict} {s.origin}".lower()
            for w in wanted
        )
    ]

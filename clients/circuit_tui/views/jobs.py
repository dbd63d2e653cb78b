"""Jobs as rows, and one of them as curves and lines: what was heard of it, and how it ended."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from circuit_client.render.heat import number
from circuit_client.render.table import duration
from circuit_protocol.circuit_replies import PrunePart, PruneResult, VerifyPart, VerifyResult
from circuit_protocol.circuits import CircuitSummary, Control
from circuit_protocol.replies import JobInfo, Progress
from circuit_tui.paint.glyphs import bar, glyphs
from circuit_tui.paint.look import Look
from circuit_tui.views.table import Cell, Column, Row, Tone
from circuit_tui.widgets.plot import Series

JOB_COLUMNS: Final = (
    Column("job", shrink=True, least=8),
    Column("what", shrink=True, least=12),
    Column("state"),
    Column("done", "right"),
    Column("age", "right", optional=True),
)
_TONES: Final[dict[str, Tone]] = {
    "queued": "dim",
    "running": "note",
    "done": "good",
    "failed": "bad",
    "cancelled": "dim",
}
#: Points kept of a curve: a prune of 100,000 steps reports ten times a second.
_POINTS_MAX: Final = 4000


def job_rows(jobs: Iterable[JobInfo], look: Look, now_s: float | None = None) -> list[Row]:
    """Jobs with how far they are; why one failed is said beside, where there is room for it."""
    now_s = time.time() if now_s is None else now_s
    signs = glyphs(look)
    marks = {
        "queued": signs.waiting,
        "running": signs.running,
        "done": signs.yes,
        "failed": signs.no,
        "cancelled": signs.closed_node,
    }
    rows = []
    for job in jobs:
        share = "" if not job.total else f"{min(1.0, job.done / job.total):.0%}"
        if job.state == "done":
            share = ""
        cells = (
            Cell(job.job),
            Cell(job.description or job.request_type),
            Cell(job.state, _TONES[job.state]),
            Cell(share),
            Cell(_age(now_s - job.created_at_s), "dim"),
        )
        rows.append(Row(job.job, cells, marks[job.state]))
    return rows


def _age(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    if seconds < 5400:
        return f"{int(seconds // 60)} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


@dataclass(slots=True)
class Heard:
    """What was heard of a job since it is watched."""

    progress: Progress | None = None
    #: How far it was, the loss then, and the nodes kept.
    points: list[tuple[float, float | None, int | None]] = field(default_factory=list)
    #: What the first of these counts.
    along: str = ""
    circuits: list[CircuitSummary] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    verdict: str | None = None

    def end(self, answer: Any) -> None:
        """Take in the end, after which nothing is left to do."""
        self.take(answer)
        self.progress = None

    def take(self, event: Any) -> None:
        """Take in one event."""
        event = getattr(event, "raw", event)
        match event:
            case Progress():
                self.progress = event
                if event.loss is not None or event.k is not None:
                    self._point(event)
            case PrunePart(circuits=some) | PruneResult(circuits=some):
                known = {c.id for c in self.circuits}
                self.circuits += [c for c in some if c.id not in known]
            case VerifyPart(control=control):
                self.controls.append(control)
            case VerifyResult(card=card):
                self.controls, self.verdict = list(card.controls), card.verdict
            case _:
                pass

    def _point(self, event: Progress) -> None:
        at, self.along = _along(event)
        if self.points and self.points[-1][0] > at:
            self.points.clear()  # another task or seed has begun, or this one anew
        self.points.append((at, event.loss, event.k))
        if len(self.points) > _POINTS_MAX:
            del self.points[1:-1:2]  # every other one, evenly, the ends not among them

    def curves(self) -> tuple[list[Series], list[Series]]:
        """Loss, and nodes kept, by how far the job was."""
        loss = [(x, y) for x, y, _ in self.points if y is not None]
        kept = [(x, float(k)) for x, _, k in self.points if k is not None]
        return (
            [Series.of("loss", *zip(*loss, strict=True))] if loss else [],
            [Series.of("nodes kept", *zip(*kept, strict=True))] if kept else [],
        )

    def lines(self, job: JobInfo, look: Look, columns: int) -> list[list[Cell]]:
        """How far `job` is or how it ended, and what it found, newest last."""
        is_open = job.state in ("queued", "running")
        lines = self._how_far(look, columns) if is_open else _how_it_ended(job)
        signs = glyphs(look)
        for control in self.controls:
            mark, tone = _passed(control, look)
            lines.append([Cell(f"{mark} ", tone), Cell(control.name.replace("_", " "), "strong"),
                          Cell(f"  {control.sentence}")])  # fmt: skip
        if self.verdict is not None:
            lines.append([Cell(self.verdict.upper(), "strong")])
        for c in self.circuits:
            m = c.measured
            said = f"{c.task}  {m.k:,} nodes, {m.n_edges:,} edges, loss {m.loss:.3f}"
            lines.append([Cell(f"{signs.yes} ", "good"), Cell(said), Cell(f"  {c.id}", "dim")])
        return lines

    def _how_far(self, look: Look, columns: int) -> list[list[Cell]]:
        p = self.progress
        if p is None:
            return []
        words = [p.stage]
        if p.total:
            words.append(
                f"{p.done:,.0f} of {p.total:,.0f} {p.unit}"
                if _counts(p)
                else f"{min(1.0, p.done / p.total):.0%}"
            )
        if p.loss is not None:
            words.append(f"loss {number(p.loss)}")
        if p.k is not None:
            words.append(f"{p.k:,} nodes")
        if p.eta_s is not None:
            words.append(f"{duration(p.eta_s)} left")
        lines = [[Cell(f" {glyphs(look).separator} ".join(words))]]
        if p.total:
            lines.append([Cell(bar(p.done / p.total, max(8, min(60, columns)), look), "note")])
        return lines


def _how_it_ended(job: JobInfo) -> list[list[Cell]]:
    after = ""
    if job.finished_at_s is not None:
        after = f" after {duration(job.finished_at_s - job.created_at_s)}"
    lines = [[Cell(f"{job.state}{after}", _TONES[job.state])]]
    # What the error of a cancelled job says, that it was cancelled, its state has said.
    if job.error is not None and job.state == "failed":
        lines.append([Cell(job.error.message, "bad")])
        lines += [[Cell(job.error.hint, "dim")]] if job.error.hint else []
    return lines


def _along(p: Progress) -> tuple[float, str]:
    """Where a report stands along its job, and what is counted there: units done if there are
    several, else the share.
    """
    if not p.total or _counts(p):
        return p.done, f"{p.unit} done".lstrip()
    return 100 * p.done / p.total, "% done"


def _counts(p: Progress) -> bool:
    """Whether its numbers count something, so that they say more than their share does."""
    return p.unit not in ("", "%") and p.total != 1


def _passed(control: Control, look: Look) -> tuple[str, Tone]:
    signs = glyphs(look)
    if control.passed is None:
        return signs.unknown, "note"
    return (signs.yes, "good") if control.passed else (signs.no, "bad")

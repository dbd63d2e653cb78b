"""`circuit status`."""

from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, duration, facts, nbytes, table
from circuit_client.sync import Connection
from circuit_protocol.replies import Resident, StatusReport


@command("status", examples=["circuit status", "circuit status --json | jq .queued"])
def status(c: Connection, out: Output) -> None:
    """How the daemon does: processes, queues, memory, models."""
    report = c.status()
    out.give(report, lambda: _lines(report, c.endpoint, out))


def _lines(report: StatusReport, endpoint: str, out: Output) -> list[Line]:
    lines = facts(
        [
            ("daemon", Span(f"circuitd {report.version}, up {duration(report.uptime_s)}")),
            ("endpoint", ", ".join(report.endpoints) or endpoint),
            (
                "requests",
                f"{report.running} running, {report.queued} queued, {report.completed} done, "
                f"{report.failed} failed",
            ),
            ("clients", str(report.clients)),
            ("jobs", f"{report.jobs_unfinished} unfinished"),
            ("memory", f"{nbytes(report.used_nbytes)} of {nbytes(report.budget_nbytes)} budget"),
        ]
    )
    processes = [
        (
            p.role,
            str(p.pid),
            p.device or "",
            Span(p.state, color="good" if p.state == "ready" else "note"),
            nbytes(p.rss_nbytes),
            str(p.restarts),
            ", ".join(p.running),
        )
        for p in report.processes
    ]
    columns = [
        Column("process"),
        Column("pid", "right"),
        Column("device"),
        Column("state"),
        Column("memory", "right"),
        Column("restarts", "right"),
        Column("running", shrink=True),
    ]
    lines += [(), *table(columns, processes, width_max=out.columns)]
    if report.resident:
        lines += [(), *resident_table(report.resident, out)]
    return lines


def resident_table(models: tuple[Resident, ...], out: Output) -> list[Line]:
    """Resident models: where, how large, until when, on which execution."""
    columns = [
        Column("model", shrink=True),
        Column("device"),
        Column("dtype"),
        Column("memory", "right"),
        Column("leaves"),
        Column("runs", shrink=True),
        Column("hash", shrink=True),
    ]
    rows = [
        (
            m.model,
            m.device,
            m.dtype,
            nbytes(m.nbytes),
            Span("pinned", color="note") if m.pinned else _expiry(m),
            m.execution,
            Span(m.model_hash[:12], color="dim"),
        )
        for m in models
    ]
    return table(columns, rows, width_max=out.columns)


def _expiry(m: Resident) -> str:
    if m.in_use:
        return "in use"
    return "never" if m.expires_in_s is None else f"in {duration(m.expires_in_s)}"

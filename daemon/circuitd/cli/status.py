"""`circuitd status` and `circuitd ps`: how the daemon does, for people and for scripts."""

import sys
from typing import TYPE_CHECKING

import click

from circuitd.cli import NOT_RUNNING
from circuitd.cli.command import Command

if TYPE_CHECKING:
    from circuit_protocol.discovery import Discovery
    from circuit_protocol.replies import StatusReport


@click.command(
    cls=Command,
    examples=[
        "circuitd status",
        "circuitd status --json | jq .is_running",
    ],
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document")
def status(as_json: bool) -> None:
    """Say whether the daemon runs, and how it does.

    Exit code 0: it runs and answers. 1: it runs but does not answer. 3: it does not run.
    """
    from circuitd.cli import text

    asked = _ask_status()
    if asked is None:
        if as_json:
            text.echo_json({"is_running": False})
        else:
            click.echo("circuitd does not run; start it with `circuitd start`", err=True)
        sys.exit(NOT_RUNNING)
    daemon, report = asked
    if as_json:
        text.echo_json({"is_running": True, "pid": daemon.pid, **_without_envelope(report)})
        return
    click.echo(
        f"circuitd {report.version} runs (process {daemon.pid}, "
        f"up {text.duration(report.uptime_s)})"
    )
    for endpoint in report.endpoints:
        click.echo(f"  listens   {endpoint}")
    click.echo(
        f"  requests  {report.running} running, {report.queued} queued, "
        f"{report.completed} completed, {report.failed} failed"
    )
    click.echo(f"  clients   {report.clients}")
    click.echo(f"  jobs      {report.jobs_unfinished} unfinished")
    click.echo(
        f"  models    {len(report.resident)} resident, {text.size(report.used_nbytes)} of "
        f"{text.size(report.budget_nbytes)}"
    )


@click.command(
    cls=Command,
    examples=[
        "circuitd ps",
        "circuitd ps --json | jq '.models[].model'",
    ],
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document")
def ps(as_json: bool) -> None:
    """List resident models and the daemon's processes, with their memory."""
    from circuitd.cli import text

    asked = _ask_status()
    if asked is None:
        if as_json:
            text.echo_json({"is_running": False, "models": [], "processes": []})
        else:
            click.echo("circuitd does not run", err=True)
        sys.exit(NOT_RUNNING)
    _, report = asked
    if as_json:
        text.echo_json(
            {
                "is_running": True,
                "models": report.resident,
                "processes": report.processes,
                "budget_nbytes": report.budget_nbytes,
                "used_nbytes": report.used_nbytes,
            }
        )
        return
    models = [
        (
            m.model,
            m.device,
            m.dtype,
            text.size(m.nbytes),
            _until(m.pinned, m.expires_in_s),
            str(m.in_use),
            m.execution or "-",
        )
        for m in report.resident
    ]
    heads = ("MODEL", "DEVICE", "DTYPE", "MEMORY", "UNTIL", "IN USE", "RUNS")
    click.echo(text.table(heads, models))
    click.echo()
    processes = [
        (
            p.role,
            str(p.pid),
            p.device or "-",
            p.state,
            text.size(p.rss_nbytes),
            str(p.restarts),
            ", ".join(p.running) or "-",
        )
        for p in report.processes
    ]
    heads = ("PROCESS", "PID", "DEVICE", "STATE", "MEMORY", "RESTARTS", "RUNNING")
    click.echo(text.table(heads, processes))


def _ask_status() -> "tuple[Discovery, StatusReport] | None":
    """The daemon and its report; None if none runs. Raises ConnectError if it does not answer."""
    from circuit_protocol.discovery import read_discovery

    daemon = read_discovery()
    if daemon is None:
        return None  # before numpy and ZeroMQ are imported
    from circuit_protocol.replies import StatusReport
    from circuit_protocol.requests import Status
    from circuitd.cli.ask import ask, request_id

    return daemon, ask(daemon, Status(id=request_id()), StatusReport)


def _without_envelope(report: "StatusReport") -> dict[str, object]:
    from circuitd.cli import text

    fields: dict[str, object] = text.plain(report)
    return {k: v for k, v in fields.items() if k not in ("id", "seq", "final")}


def _until(pinned: bool, expires_in_s: float | None) -> str:
    from circuitd.cli import text

    if pinned:
        return "pinned"
    return "for ever" if expires_in_s is None else f"in {text.duration(expires_in_s)}"

"""`circuit jobs`."""

import time

import click

from circuit_client.answers import AblateAnswer, Answer, HookAnswer, MaskLosses
from circuit_client.as_json import public
from circuit_client.cli import ablate, hook, prune
from circuit_client.cli.command import command, group
from circuit_client.cli.output import Output, sentence
from circuit_client.render.card import card_lines
from circuit_client.render.circuit_tables import pruned_lines
from circuit_client.render.style import Line, Named, Span
from circuit_client.render.table import Column, duration, facts, table
from circuit_client.sync import Connection
from circuit_protocol.circuit_replies import PruneResult, VerifyPart, VerifyResult
from circuit_protocol.replies import JobInfo, Progress

_job = click.argument("job")
_COLORS: dict[str, Named] = {"done": "good", "failed": "bad", "running": "note"}


@group("jobs")
def jobs() -> None:
    """Work that survives clients and daemons."""


@command("list", examples=["circuit jobs list", "circuit jobs list --unfinished --json"])
@click.option("--limit", type=int, default=100, show_default=True, help="Jobs at most.")
@click.option("--unfinished", is_flag=True, help="Only those not ended.")
def list_jobs(c: Connection, out: Output, limit: int, unfinished: bool) -> None:
    """Jobs, newest first."""
    found = c.jobs.list(limit=limit, unfinished_only=unfinished)
    out.give({"jobs": found}, lambda: _list_lines(found, out))


def _list_lines(found: tuple[JobInfo, ...], out: Output) -> list[Line]:
    if not found:
        return sentence("no jobs")
    columns = [
        Column("job"),
        Column("state"),
        Column("done", "right"),
        Column("age", "right"),
        Column("what", shrink=True),
    ]
    rows = [
        (
            j.job,
            Span(j.state, color=_COLORS.get(j.state)),
            _share(j),
            duration(max(0.0, time.time() - j.created_at_s)),
            f"{j.request_type} {j.description}".strip(),
        )
        for j in found
    ]
    return table(columns, rows, width_max=out.columns)


def _share(j: JobInfo) -> str:
    return f"{min(1.0, j.done / j.total):.0%}" if j.total else ""


@command("get", examples=["circuit jobs get 7c1d --json"])
@_job
def get(c: Connection, out: Output, job: str) -> None:
    """One job's record."""
    info = c.jobs.get(job)
    out.give(info, lambda: _info_lines(info))


def _info_lines(j: JobInfo) -> list[Line]:
    lines = facts(
        [
            ("job", Span(j.job, bold=True)),
            ("request", f"{j.request_type} {j.description}".strip()),
            ("state", Span(j.state, color=_COLORS.get(j.state))),
            ("progress", f"{j.done:g} of {j.total:g}" if j.total else f"{j.done:g}"),
            ("resumed", f"{j.resumes} times"),
        ]
    )
    if j.finished_at_s is not None:
        lines += facts([("took", duration(j.finished_at_s - j.created_at_s))])
    if j.error is not None:
        lines += facts([("error", Span(j.error.message, color="bad"))])
    return lines


@command("watch", examples=["circuit jobs watch 7c1d", "circuit jobs watch 7c1d --json"])
@_job
def watch(c: Connection, out: Output, job: str) -> None:
    """Follow a job to its end; Ctrl-C stops following and not the job.

    With --json, a line per progress report or part, and a last one with the job's answer.
    """
    stream = c.jobs.watch(job)
    for event in stream:
        if out.json:
            out.line(_raw(event))
        elif isinstance(event, Progress):
            out.progress(event)
    result = stream.result()
    if out.json:
        out.line(_raw(result))
        return
    info = c.jobs.get(job)
    out.show([*_info_lines(info), *_result_lines(result, out)])


def _result_lines(result: object, out: Output) -> list[Line]:
    """The answers that are worth more than the job's record."""
    style = {"columns": out.columns, "ascii_only": out.ascii_only}
    match result:
        case PruneResult():
            return [(), *pruned_lines(result.circuits, result.failures, **style)]
        case VerifyResult():
            return [(), *card_lines(result.card, **style)]
        case _:
            return []


def _raw(event: object) -> object:
    """An event or answer as the command that asks for it directly prints it."""
    match event:
        case AblateAnswer():
            return ablate.document(event)
        case HookAnswer():
            return hook.document(event)
        case MaskLosses():
            return {"start": event.start, "losses": event.losses}
        case PruneResult():
            circuits = [prune.document(s, None) for s in event.circuits]
            return {**public(event), "circuits": circuits}
        case VerifyPart():
            return event.control
        case VerifyResult():
            return event.card
        case Answer():
            return public(event.raw)
        case _:
            return public(event)


@command("cancel", examples=["circuit jobs cancel 7c1d"])
@_job
def cancel(c: Connection, out: Output, job: str) -> None:
    """End a job within one step."""
    changed = c.jobs.cancel(job)
    out.give({"changed": changed}, lambda: sentence("cancelled" if changed else "it had ended"))


for _command in (list_jobs, get, watch, cancel):
    jobs.add_command(_command)

"""The commands: what menus, lenses and links run. What they found is answered, and told.

Whatever a command takes half a second or more for shows progress, and its cancel ends it in the
daemon: a request by cancelling it, a job by cancelling the job.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams, JsonRpcRequestCancelled

from circuit_lsp.answers import catalogue, circuits, daemon, documents, jobs, sessions
from circuit_lsp.features.progress import Reporter
from circuit_lsp.messages import Message, commands
from circuit_lsp.messages.circuits import CircuitParams, Drawing, DrawParams
from circuit_lsp.messages.daemon import JobInfo, TaskParams
from circuit_lsp.pairs import edit_that_adds, side_of, taken
from circuit_lsp.protocol import answering
from circuit_lsp.server import CircuitServer
from circuit_lsp.task_runs import run_pair, run_task
from circuit_lsp.tokens import visible
from circuit_lsp.workbench import Workbench
from circuit_protocol.errors import CircuitError, NotFound

Run = Callable[[CircuitServer, Any], Awaitable[Message]]


def register(server: CircuitServer) -> None:
    """Answer every command of `messages.commands`."""
    for name, run in RUNS.items():
        server.command(name)(_handler(server, name, run))


def _handler(server: CircuitServer, name: str, run: Run) -> Callable[..., Awaitable[Message]]:
    what = commands.COMMANDS[name]

    async def handle(*arguments: Any) -> Message:
        given = arguments[0] if arguments else {}
        try:
            params = msgspec.convert(given, what.params)
        except msgspec.ValidationError as e:
            raise JsonRpcInvalidParams(f"{name}: {e}") from None
        result = await _with_progress(server, what.title, run(server, params))
        sentence = getattr(result, "sentence", None)
        if sentence is not None and server.bench.settings.say_results:
            server.show(types.MessageType.Info, sentence)
        return result

    handle.__name__ = name
    return answering(handle)


async def _with_progress(server: CircuitServer, title: str, work: Awaitable[Message]) -> Message:
    task = asyncio.ensure_future(work)
    reporter = Reporter(server, title, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if task.cancelled() and not _is_cancelled_itself():
            raise JsonRpcRequestCancelled(f"{title}: cancelled") from None
        task.cancel()
        raise
    finally:
        reporter.end()


def _is_cancelled_itself() -> bool:
    """Whether it is the command's own request that was cancelled, not only what it waits for."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


async def _start_job(server: CircuitServer, started: Awaitable[JobInfo]) -> JobInfo:
    """Start a job, and show how far it is until its end."""
    job = await started
    server.follow(job, lambda: asyncio.ensure_future(_cancel(server.bench, job.job)))
    return job


async def _cancel(bench: Workbench, job: str) -> None:
    with contextlib.suppress(CircuitError):
        await bench.link.connection.jobs.cancel(job)


async def _hints(server: CircuitServer, params: commands.HintsParams) -> commands.HintsParams:
    server.bench.hints_on = params.on
    server.refresh()
    return params


async def _take_side(server: CircuitServer, params: commands.TextParams) -> commands.PairTaken:
    bench = server.bench
    document = bench.document(params.uri)
    start = document.text.offset_at(params.range.start)
    end = document.text.offset_at(params.range.end)
    reading = await bench.reading_at(document, start)
    side = side_of(reading, start, end)
    pair = server.pairs.take(side)
    if pair is None:
        return taken(side, None, None)
    root = server.root
    if root is None:
        raise NotFound("there is no folder to write the pair to", hint="Open a folder")
    path = root / "circuit_pairs.jsonl"
    opened = bench.documents.get(path.as_uri())
    edit = edit_that_adds(root, pair, None if opened is None else opened.text.source)
    await server.workspace_apply_edit_async(
        types.ApplyWorkspaceEditParams(edit=edit, label="Add a task pair")
    )
    return taken(side, pair, str(path))


async def _measure(server: CircuitServer, params: CircuitParams) -> Drawing:
    await circuits.measure(server.bench, params)
    drawn = DrawParams(circuit=params.circuit, model=params.model)
    return await circuits.draw(server.bench, drawn)


async def _show_task(server: CircuitServer, params: TaskParams) -> Drawing:
    shown = await catalogue.show_task(server.bench, params)
    lines = [shown.task.description]
    for pair in shown.pairs:
        for prompt, target in zip(pair.prompts, pair.targets, strict=True):
            lines.append(f"{visible(prompt.encode())} → {visible(target.encode())}")
    return Drawing(title=shown.task.name, lines=tuple(lines))


def _on_bench(answer: Callable[[Workbench, Any], Awaitable[Message]]) -> Run:
    return lambda server, params: answer(server.bench, params)


def _asking(run: Callable[..., Awaitable[Message]]) -> Run:
    async def asked(server: CircuitServer, params: Any) -> Message:
        bench = server.bench
        return await run(bench.link.connection, bench.facts, bench.look(), params)

    return asked


RUNS: Final[dict[str, Run]] = {
    "circuit.heat": _on_bench(documents.watch),
    "circuit.hints": _hints,
    "circuit.explain": _on_bench(documents.explain),
    "circuit.ablate": _on_bench(documents.ablate),
    "circuit.select": _on_bench(sessions.update),
    "circuit.showCircuit": _on_bench(circuits.draw),
    "circuit.runTask": _asking(run_task),
    "circuit.runPair": _asking(run_pair),
    "circuit.showTask": _show_task,
    "circuit.takeSide": _take_side,
    "circuit.prune": lambda server, params: _start_job(server, jobs.prune(server.bench, params)),
    "circuit.verify": lambda server, params: _start_job(server, jobs.verify(server.bench, params)),
    "circuit.measure": _measure,
    "circuit.cancelJob": _on_bench(jobs.cancel),
    "circuit.startDaemon": _on_bench(daemon.start),
}

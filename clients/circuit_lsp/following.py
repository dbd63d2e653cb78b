"""Jobs that are followed: each as it was heard of last, and who wants to hear of it.

A job belongs to the daemon, not to this editor: leaving does not end it, and one that another
client started is followed as well.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from circuit_client.answers import Answer
from circuit_client.call import Call
from circuit_client.verbs import jobs as job_calls
from circuit_lsp.errors import as_circuit_error, problem_of
from circuit_lsp.link import Link
from circuit_lsp.messages.daemon import JobInfo
from circuit_protocol.circuit_replies import PrunePart, PruneResult, VerifyResult
from circuit_protocol.errors import CircuitError, ConnectError
from circuit_protocol.replies import JobInfo as JobRecord
from circuit_protocol.replies import Progress, Reply

_LEAST_PAUSE_S: Final = 0.2
_FINISHED: Final = ("done", "failed", "cancelled")


def job_message(record: JobRecord) -> JobInfo:
    """A job as its record has it."""
    return JobInfo(
        job=record.job,
        kind=record.request_type,
        description=record.description,
        state=record.state,
        created_at_s=record.created_at_s,
        finished_at_s=record.finished_at_s,
        done=record.done,
        total=record.total,
        problem=None if record.error is None else problem_of(record.error),
    )


class Following:
    """The jobs that are followed, over one link."""

    def __init__(self, link: Link, on_change: Callable[[JobInfo], None]) -> None:
        self._link = link
        self._on_change = on_change
        self._latest: dict[str, JobInfo] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def latest(self, job: str) -> JobInfo | None:
        """A followed job as it was heard of last."""
        return self._latest.get(job)

    async def start(self, call: Call[Any, Any]) -> JobInfo:
        """Send a request as a job, and follow it."""
        c = self._link.connection
        record = await c.jobs.get(await c.run(job_calls.detached(call)))
        return self.follow(record)

    def follow(self, record: JobRecord) -> JobInfo:
        """Hear of a job from now on, unless it has ended."""
        job = job_message(record)
        if record.state in _FINISHED:
            self._latest.pop(record.job, None)
            return job
        if record.job not in self._tasks:
            self._latest[record.job] = job
            task = asyncio.create_task(self._watch(record.job))
            self._tasks[record.job] = task
            task.add_done_callback(lambda _: self._tasks.pop(record.job, None))
        return self._latest[record.job]

    def close(self) -> None:
        """Hear of no job any longer; the jobs go on."""
        for task in self._tasks.values():
            task.cancel()

    async def _watch(self, name: str) -> None:
        told_at_s = 0.0
        try:
            c = self._link.connection
            stream = c.jobs.watch(name)
            async for event in stream:
                self._take(name, event)
                if time.monotonic() - told_at_s >= _LEAST_PAUSE_S:
                    told_at_s = time.monotonic()
                    self._on_change(self._latest[name])
            self._take(name, await stream.result())
            record = await c.jobs.get(name)
        except ConnectError:
            self._latest.pop(name, None)  # it goes on in the daemon, and is followed again later
            return
        except Exception as e:
            await self._ended(name, as_circuit_error(e))
            return
        self._end(name, job_message(record))

    async def _ended(self, name: str, error: CircuitError) -> None:
        """A job that did not end well: what its record says, else the error itself."""
        try:
            job = job_message(await self._link.connection.jobs.get(name))
        except CircuitError:
            problem = problem_of(error)
            job = msgspec.structs.replace(self._latest[name], state="failed", problem=problem)
        self._end(name, job)

    def _end(self, name: str, job: JobInfo) -> None:
        last = self._latest.pop(name)
        self._on_change(
            msgspec.structs.replace(job, circuits=last.circuits, verdict=last.verdict, k=last.k)
        )

    def _take(self, name: str, event: Answer | Reply) -> None:
        changes: dict[str, Any] = {"state": "running"}
        match event:
            case Progress():
                changes |= {
                    "stage": event.stage, "done": event.done, "total": event.total,
                    "eta_s": event.eta_s, "loss": event.loss, "k": event.k,
                }  # fmt: skip
            case PrunePart() | PruneResult():
                known = self._latest[name].circuits
                found = (c.id for c in event.circuits)
                changes["circuits"] = tuple(dict.fromkeys((*known, *found)))
            case VerifyResult():
                changes["verdict"] = event.card.verdict
            case _:
                pass
        self._latest[name] = msgspec.structs.replace(self._latest[name], **changes)

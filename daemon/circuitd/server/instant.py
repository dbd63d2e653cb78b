"""What the front answers about the daemon itself: hello, status, shutdown, cancel, tasks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import psutil

import circuitd
from circuit_protocol import requests as r
from circuit_protocol.errors import Cancelled, UnsupportedVersion
from circuit_protocol.replies import (
    Done,
    ProcessInfo,
    StatusReport,
    TaskList,
    TaskSummary,
    Welcome,
)
from circuit_protocol.version import PROTOCOL_VERSION, is_compatible
from circuitd.server.model_requests import resident_of
from circuitd.server.replies import OpenRequest

if TYPE_CHECKING:
    from circuitd.server.front import Front, Handler

_process: Final = psutil.Process(os.getpid())


def hello(front: Front, entry: OpenRequest, request: r.Hello) -> None:
    """Welcome a client, or refuse the version it speaks."""
    if not any(is_compatible(version) for version in request.versions):
        raise UnsupportedVersion(
            "no version of the protocol in common",
            asked=", ".join(request.versions)[:200],
            found=PROTOCOL_VERSION,
            hint="Update the older of client and daemon",
        )
    front.welcome(entry, request.client)
    front.reply(
        entry,
        Welcome(
            id=request.id,
            version=PROTOCOL_VERSION,
            server=f"circuitd {circuitd.__version__}",
            instance=front.instance,
            pid=os.getpid(),
            capabilities=front.capabilities(entry.client),
            limits=front.settings.limits,
            default_model=front.settings.default_model or None,
        ),
    )


def status(front: Front, entry: OpenRequest, request: r.Status) -> None:
    """How the daemon does, from what the front knows: no worker is asked."""
    scheduler = front.dispatcher.scheduler
    residency = front.dispatcher.residency
    processes = [
        ProcessInfo(
            role="front",
            pid=os.getpid(),
            rss_nbytes=_process.memory_info().rss,
            state="ending" if front.ending.is_set() else "ready",
        )
    ]
    processes += [
        ProcessInfo(
            role="worker",
            pid=worker.process.pid,
            rss_nbytes=worker.rss_nbytes,
            device=worker.device,
            state=worker.state,
            restarts=worker.restarts,
            running=tuple(
                f"{item.request_type} {item.request_id}"
                for item in scheduler.running_on(worker.number)
            ),
        )
        for worker in front.supervisor.workers
    ]
    now = front.dispatcher.clock()
    front.reply(
        entry,
        StatusReport(
            id=request.id,
            version=circuitd.__version__,
            instance=front.instance,
            uptime_s=time.monotonic() - front.started_at,
            endpoints=tuple(front.endpoints),
            processes=tuple(processes),
            clients=len(front.clients),
            queued=scheduler.n_queued,
            running=scheduler.n_running,
            completed=front.book.completed,
            failed=front.book.failed,
            resident=tuple(
                resident_of(m, residency.places[m.worker].device, now)
                for m in residency.models.values()
                if m.state == "resident"
            ),
            jobs_unfinished=front.jobs.n_unfinished,
            budget_nbytes=residency.budget_nbytes,
            used_nbytes=front.dispatcher.placement.used_nbytes,
        ),
    )


def shutdown(front: Front, entry: OpenRequest, request: r.Shutdown) -> None:
    """Agree, then end."""
    was_ending = front.ending.is_set()
    front.reply(entry, Done(id=request.id, changed=not was_ending))
    front.ending.set()
    if not request.drain:
        front.ending_now.set()
    front.dispatcher.pump()


def cancel(front: Front, entry: OpenRequest, request: r.Cancel) -> None:
    """Stop another request of this client, whatever it is."""
    target = front.book.get(entry.client, request.target)
    if target is None or target is entry or target.stop is None:
        front.reply(entry, Done(id=request.id, changed=False))
        return
    front.reply(entry, Done(id=request.id))
    target.stop(Cancelled("the client cancelled the request"))


async def list_tasks(front: Front, entry: OpenRequest, request: r.ListTasks) -> None:
    """Built-in tasks and those of task files, which are read in a thread."""
    front.reply(entry, TaskList(id=request.id, tasks=await asyncio.to_thread(_tasks, front)))


def _tasks(front: Front) -> tuple[TaskSummary, ...]:
    from circuitd.tasks.errors import TaskError
    from circuitd.tasks.registry import TaskRegistry

    registry = TaskRegistry(front.task_directories)
    summaries = []
    for name in registry.names():
        try:
            task = registry.get(name)
        except TaskError as error:  # one faulty file hides no other task
            broken = TaskSummary(name=name, description=f"broken: {error}", source=error.path or "")
            summaries.append(broken)
            continue
        summaries.append(
            TaskSummary(
                name=task.name,
                description=task.description,
                source=task.source,
                aligned=task.aligned,
            )
        )
    return tuple(summaries)


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    r.Hello: hello,
    r.Status: status,
    r.Shutdown: shutdown,
    r.Cancel: cancel,
    r.ListTasks: list_tasks,
}

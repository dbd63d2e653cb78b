"""Jobs: requests that outlive their client and the daemon.

A job is on disk before its client is told so. It runs as batch work with a checkpoint directory;
its final reply is stored with it; whoever watches it hears its progress and, in the end, that
reply. At start, the jobs that were not finished are queued again and go on from their checkpoints.

Records are written in one thread, in order; the loop never waits for the disk. A reply that could
not be recorded (a full disk) is still given to the watchers, and the job will run again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from circuit_protocol import requests as r
from circuit_protocol.codec import decode_reply, decode_request, encode
from circuit_protocol.errors import Cancelled, CircuitError, ErrorInfo, InvalidRequest, StorageFull
from circuit_protocol.replies import Done, Failed, JobAccepted, JobInfo, JobList, Progress
from circuit_protocol.tensors import Frame
from circuitd.server.dispatch import Dispatcher
from circuitd.server.references import check_references
from circuitd.server.replies import OpenRequest, reply_type, rewritten
from circuitd.server.scheduler import ClientId
from circuitd.store.job_thread import JobThread
from circuitd.store.jobs import FinalState
from circuitd.store.results import StoredReply

if TYPE_CHECKING:
    from circuitd.server.front import Front, Handler

log = logging.getLogger(__name__)

#: All jobs share one place in the queue's turns.
JOBS_CLIENT: Final[ClientId] = b"\xffjobs"


@dataclass(slots=True, eq=False)
class JobRun:
    """An unfinished job: the owner of its work item."""

    jobs: Jobs
    info: JobInfo
    number: int | None = None
    watchers: dict[OpenRequest, None] = field(default_factory=dict)
    #: Whether it is over, and only its final reply has still to be recorded.
    ended: bool = False
    #: Who leases the tensors its answers name.
    lessee: ClientId = b""
    outlives_daemon: bool = True

    @property
    def is_waiting(self) -> bool:
        """Whether its end has not come yet."""
        return not self.ended

    def started(self) -> None:
        """A worker has begun."""
        self.info = replace(self.info, state="running")
        self.jobs.record(self.jobs.thread.start(self.info.job))

    def answered(
        self, header: bytes, frames: tuple[Frame, ...], *, final: bool, error: bool
    ) -> None:
        """Tell the watchers; record progress and the end."""
        if final:
            failure = decode_reply(header) if error else None
            info = failure.error if isinstance(failure, Failed) else None
            self.jobs.end(self, header, frames, info)
            return
        if reply_type(header) == "progress":
            progress = decode_reply(header)
            if isinstance(progress, Progress):
                self.info = replace(self.info, done=progress.done, total=progress.total)
                self.jobs.record(
                    self.jobs.thread.progress(self.info.job, progress.done, progress.total)
                )
        self.jobs.tell(self, header, frames, final=False)

    def from_cache(self, reply: StoredReply) -> None:
        """The same question was answered before."""
        header = rewritten(reply.header, seq=0, cached=True)
        self.jobs.end(self, header, reply.frames, None)

    def failed(self, error: CircuitError) -> None:
        """It came to nothing."""
        info = error.to_info()
        self.jobs.end(self, encode(Failed(id=self.info.job, error=info)), (), info)

    def lost_worker(self) -> None:
        """It waits again."""
        self.info = replace(self.info, state="queued", resumes=self.info.resumes + 1)
        self.jobs.record(self.jobs.thread.requeue(self.info.job))


class Jobs:
    """The unfinished jobs, and the records of all."""

    def __init__(
        self, thread: JobThread, dispatcher: Dispatcher, *, keep: int, keep_nbytes: int
    ) -> None:
        """`keep` finished jobs, of at most `keep_nbytes` in all, stay on record."""
        self.thread = thread
        self._dispatcher = dispatcher
        self._cache = dispatcher.cache
        self._keep = keep
        self._keep_nbytes = keep_nbytes
        self.runs: dict[str, JobRun] = {}
        self._writes: set[asyncio.Task[Any]] = set()
        #: Jobs that are being looked at and recorded, before they are among the runs.
        self._accepting = 0
        #: Set when the daemon ends: what is unfinished then stays so in the records.
        self.is_ending = False
        self.front: Front

    @property
    def n_unfinished(self) -> int:
        """Jobs queued or running."""
        return len(self.runs)

    async def resume(self) -> None:
        """Queue the jobs an earlier daemon left unfinished."""
        for job in await self.thread.recover():
            try:
                request = decode_request(job.request.header)
            except CircuitError as error:  # written by another version
                run = JobRun(self, job.info)
                self.runs[job.info.job] = run
                run.failed(error)
                continue
            self._begin(job.info, request, job.request.header, job.request.frames)
        if self.runs:
            log.info("%d jobs resume", len(self.runs))

    async def accept(
        self,
        front: Front,
        entry: OpenRequest,
        request: r.ModelRequest,
        header: bytes,
        frames: tuple[Frame, ...],
    ) -> None:
        """Record a request as a job, tell its client, and queue it."""
        if isinstance(request, r.LoadModel):
            raise InvalidRequest("loading a model cannot be a job", hint="Leave `detach` out")
        self._check_room(len(header) + sum(memoryview(frame).nbytes for frame in frames))
        # What does not exist is told now, not by a failed job.
        located = front.dispatcher.catalog.locate(request.model, request.dtype)
        tag = str(type(request).__struct_config__.tag)
        self._accepting += 1
        try:
            await asyncio.to_thread(
                check_references, request, located, front.circuits, front.task_directories
            )
            info = await self.thread.accept(tag, header, frames, f"{tag} on {request.model}")
        finally:
            self._accepting -= 1
        front.reply(entry, JobAccepted(id=entry.request_id, job=info.job))
        self._begin(info, request, header, frames)

    def _check_room(self, nbytes: int) -> None:
        """Raise Busy for a job too many: none that is on record is turned away by its queue."""
        scheduler = self._dispatcher.scheduler
        scheduler.check_room(JOBS_CLIENT, nbytes)
        unfinished = len(self.runs) + self._accepting
        if unfinished >= scheduler.limits.client_items:
            raise scheduler.busy(f"{unfinished} jobs are unfinished already")

    def _begin(
        self, info: JobInfo, request: r.Request, header: bytes, frames: tuple[Frame, ...]
    ) -> None:
        run = JobRun(self, info, lessee=_lessee(info.job))
        self.runs[info.job] = run
        try:
            run.number = self._dispatcher.begin(
                # Its deadline counted from its arrival, at a daemon that may be long gone.
                replace(request, deadline_s=None),
                header,
                frames,
                run,
                client=JOBS_CLIENT,
                job=info.job,
                checkpoint_dir=str(self.thread.checkpoint_dir(info.job)),
            )
        except CircuitError as error:
            run.failed(error)

    def end(
        self, run: JobRun, header: bytes, frames: tuple[Frame, ...], error: ErrorInfo | None
    ) -> None:
        """A job is over: record that, then tell the watchers."""
        if run.ended:
            return
        if self.is_ending and error is not None and error.retry:
            return  # the daemon ends, not the job
        run.ended = True
        state: FinalState = "done" if error is None else "failed"
        if error is not None and error.code == Cancelled.code:
            state = "cancelled"
        self.record(self._finish(run, state, header, frames, error))

    async def _finish(
        self,
        run: JobRun,
        state: FinalState,
        header: bytes,
        frames: tuple[Frame, ...],
        error: ErrorInfo | None,
    ) -> None:
        try:
            await self.thread.finish(run.info.job, state, header, frames, error)
        finally:
            del self.runs[run.info.job]
            self.tell(run, header, frames, final=True, error=error is not None)
        for forgotten in await self.thread.prune(self._keep, self._keep_nbytes):
            self._cache.delete(self._cache.leases.release_all(_lessee(forgotten)))

    def tell(
        self,
        run: JobRun,
        header: bytes,
        frames: tuple[Frame, ...],
        *,
        final: bool,
        error: bool = False,
    ) -> None:
        """Pass a reply on to all who watch a job, under the id and number of their own request."""
        for entry in list(run.watchers):
            self.share_tensors(run.info.job, entry)
            theirs = rewritten(header, request_id=entry.request_id, seq=entry.seq)
            self.front.pass_on(entry, theirs, frames, final=final, error=error)

    def share_tensors(self, job: str, entry: OpenRequest) -> None:
        """Lease the tensors a job's replies name to who is about to be told of them."""
        leases = self._cache.leases
        handles = tuple(leases.by_client.get(_lessee(job), ()))
        leases.share(entry.client, handles, self._dispatcher.clock())

    def record(self, write: Coroutine[Any, Any, Any]) -> None:
        """Write in the background; a record that cannot be written is worth a line in the log."""

        async def run() -> None:
            try:
                await write
            except CircuitError as error:
                log.error("a job's record was not written: %s", error)

        task = asyncio.create_task(run())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Finish the writes and close the records."""
        if self._writes:
            await asyncio.wait(self._writes)
        await self.thread.close()


def _lessee(job: str) -> ClientId:
    """As whom a job leases the tensors its replies name, as long as it is on record."""
    return b"\xffjob " + job.encode()


# ------------------------------------------------------------------------------------- requests


async def list_jobs(front: Front, entry: OpenRequest, request: r.ListJobs) -> None:
    """Jobs, newest first."""
    jobs = front.jobs
    found = await jobs.thread.newest(request.limit, unfinished_only=request.unfinished_only)
    front.reply(entry, JobList(id=request.id, jobs=tuple(_current(jobs, info) for info in found)))


async def get_job(front: Front, entry: OpenRequest, request: r.GetJob) -> None:
    """One job's record."""
    info = await front.jobs.thread.get(request.job)
    front.reply(entry, JobList(id=request.id, jobs=(_current(front.jobs, info),)))


async def watch_job(front: Front, entry: OpenRequest, request: r.WatchJob) -> None:
    """Follow a job to its end; a finished one is answered at once."""
    jobs = front.jobs
    if request.job not in jobs.runs:
        stored = await jobs.thread.reply(request.job)
        if stored is not None:
            header = rewritten(stored.header, request_id=entry.request_id, seq=entry.seq)
            error = reply_type(header) == "error"
            jobs.share_tensors(request.job, entry)
            front.pass_on(entry, header, stored.frames, final=True, error=error)
            return
    run = jobs.runs.get(request.job)
    if run is None:
        raise StorageFull(
            "the job has ended, but its reply could not be recorded",
            asked=request.job,
            hint="Free some room; it runs again when the daemon is started again",
        )
    run.watchers[entry] = None

    def stop(error: CircuitError) -> None:
        run.watchers.pop(entry, None)
        front.fail(entry, error)

    entry.stop = stop
    info = run.info
    front.reply(
        entry,
        Progress(
            id=entry.request_id, final=False, stage=info.state, done=info.done, total=info.total
        ),
    )


async def cancel_job(front: Front, entry: OpenRequest, request: r.CancelJob) -> None:
    """End a job at its next step; a finished one stays as it is."""
    run = front.jobs.runs.get(request.job)
    if run is None or run.number is None or run.ended:
        await front.jobs.thread.get(request.job)  # NotFound for one nobody knows
        front.reply(entry, Done(id=request.id, changed=False))
        return
    front.reply(entry, Done(id=request.id))
    front.dispatcher.stop(run.number, Cancelled("the job was cancelled"))


def _current(jobs: Jobs, info: JobInfo) -> JobInfo:
    """A record with what has not been written yet."""
    run = jobs.runs.get(info.job)
    return run.info if run is not None else info


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    r.ListJobs: list_jobs,
    r.GetJob: get_job,
    r.WatchJob: watch_job,
    r.CancelJob: cancel_job,
}

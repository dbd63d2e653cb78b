"""The job records as an event loop uses them: every call in one thread of their own, in order.

Methods are `JobStore`'s, awaitable. A call that was begun is carried out even if its awaiter is
cancelled, so a record never stays half written.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from circuit_protocol.errors import ErrorInfo
from circuit_protocol.replies import JobInfo
from circuitd.store.jobs import Buffer, FinalState, JobStore, StoredMessage, UnfinishedJob

P = ParamSpec("P")
T = TypeVar("T")


class JobThread:
    """An awaitable `JobStore`. Make it with `JobThread.open`, end it with `close`."""

    def __init__(self, store: JobStore, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._thread = thread

    @classmethod
    async def open(cls, state_dir: Path) -> "JobThread":
        """Open the records under `state_dir`. Raises like `JobStore`."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        try:
            store = await asyncio.wrap_future(thread.submit(JobStore, state_dir))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(store, thread)

    async def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        future = self._thread.submit(method, *args, **kwargs)
        return await asyncio.shield(asyncio.wrap_future(future))

    async def accept(
        self,
        request_type: str,
        header: Buffer,
        frames: Sequence[Buffer] = (),
        description: str = "",
    ) -> JobInfo:
        """Record a new job; it is durable when this returns."""
        return await self._call(self._store.accept, request_type, header, frames, description)

    async def start(self, job: str) -> None:
        """A worker has begun with it."""
        await self._call(self._store.start, job)

    async def requeue(self, job: str) -> None:
        """Its worker was lost: it waits again."""
        await self._call(self._store.requeue, job)

    async def progress(self, job: str, done: float, total: float | None = None) -> None:
        """How far it is; cheap to call often."""
        await self._call(self._store.progress, job, done, total)

    async def finish(
        self,
        job: str,
        state: FinalState,
        header: Buffer,
        frames: Sequence[Buffer] = (),
        error: ErrorInfo | None = None,
    ) -> bool:
        """Record the final reply; False if the job was finished already."""
        return await self._call(self._store.finish, job, state, header, frames, error)

    async def recover(self) -> list[UnfinishedJob]:
        """The unfinished jobs, oldest first, all queued again."""
        return await self._call(self._store.recover)

    async def get(self, job: str) -> JobInfo:
        """One job's record. Raises NotFound."""
        return await self._call(self._store.get, job)

    async def newest(self, limit: int = 100, *, unfinished_only: bool = False) -> list[JobInfo]:
        """Jobs, newest first."""
        return await self._call(self._store.newest, limit, unfinished_only=unfinished_only)

    async def request(self, job: str) -> StoredMessage:
        """The request as it came. Raises NotFound."""
        return await self._call(self._store.request, job)

    async def reply(self, job: str) -> StoredMessage | None:
        """The final reply, or None while there is none. Raises NotFound."""
        return await self._call(self._store.reply, job)

    async def unfinished(self) -> int:
        """How many jobs are not finished."""
        return await self._call(self._store.unfinished)

    async def prune(self, keep: int, keep_nbytes: int) -> list[str]:
        """Forget old finished jobs; which."""
        return await self._call(self._store.prune, keep, keep_nbytes)

    def checkpoint_dir(self, job: str) -> Path:
        """Where the worker keeps what it needs to resume."""
        return self._store.checkpoint_dir(job)

    async def close(self) -> None:
        """Finish what was begun, close the records, end the thread."""
        await self._call(self._store.close)
        self._thread.shutdown()

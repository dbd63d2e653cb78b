"""The asynchronous connection: `async with connect_async() as c: await c.forward(...)`.

The same line and the same calls as the synchronous one; replies are handed to the event loop. A
cancelled coroutine cancels its request in the daemon. Since nothing may block the loop, large
tensors of an answer are fetched before it is returned, unless the request said `deliver="handle"`.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np

from circuit_client.answers import Answer
from circuit_client.call import Call
from circuit_client.inflight import Arrived, Folding, Item
from circuit_client.line import Line
from circuit_client.surface_aio import Verbs
from circuit_client.verbs import jobs, tensors
from circuit_protocol.errors import CircuitError, InvalidRequest
from circuit_protocol.replies import AnyReply, JobInfo, Welcome
from circuit_protocol.tensors import Frame, Handle

E = TypeVar("E")
R = TypeVar("R")


class _Inbox:
    """Where the I/O thread leaves replies for a coroutine that waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[Item] = asyncio.Queue()

    def deliver(self, reply: AnyReply, frames: Sequence[Frame]) -> None:
        self._put(Arrived(reply, frames))

    def fail(self, error: CircuitError) -> None:
        self._put(error)

    def _put(self, item: Item) -> None:
        # A loop that has ended has nobody left who waits.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.items.put_nowait, item)


class AsyncStream(Generic[E, R]):
    """A request in flight: iterate over its events, then `await stream.result()`.

    Closing it, leaving its `async with` block or dropping it before the end cancels the request.
    """

    def __init__(self, line: Line, keeper: "AsyncKeeping", call: Call[E, R]) -> None:
        self._line = line
        self._keeper = keeper
        self._folding = Folding(call, keeper)
        self._fetched = getattr(call.request, "deliver", "auto") == "handle"
        self._inbox = _Inbox()
        self._id = line.new_id()
        try:
            line.submit(self._id, call, self._inbox)
        except BaseException:  # Ctrl-C may come when the request is already on its way
            self.cancel()
            raise

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        while not self._folding.done:
            event = await self._step()
            if event is not None:
                return event
        self._folding.result()  # raises what the request ended in
        raise StopAsyncIteration

    async def _step(self) -> E | None:
        try:
            return self._folding.fold(await self._inbox.items.get())
        except BaseException:  # this coroutine was cancelled, or the progress callback failed
            self.cancel()
            raise

    async def result(self) -> R:
        """Wait for the end. Raises the error the request ended in."""
        while not self._folding.done:
            await self._step()
        result = self._folding.result()
        if isinstance(result, Answer) and not self._fetched:
            for value in result.held_values():
                if not value.is_here:
                    await AsyncStream(self._line, self._keeper, tensors.fetch(value)).result()
            self._fetched = True
        return result

    @property
    def done(self) -> bool:
        """Whether the end has been seen by this stream."""
        return self._folding.done

    def cancel(self) -> None:
        """Ask the daemon to end the request within one step; `result()` then raises Cancelled."""
        if not self._folding.done:
            self._line.cancel(self._id)

    async def aclose(self) -> None:
        """Cancel the request if it has not ended."""
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_id"):
            self.cancel()


class AsyncJob(Generic[E, R]):
    """A request that runs on whether or not anybody is connected."""

    def __init__(self, connection: "AsyncConnection", name: str, call: Call[E, R]) -> None:
        self._connection = connection
        self._call = call
        #: By which any client can find the job.
        self.name = name

    def watch(self) -> AsyncStream[E, R]:
        """Its progress from now on, and its result. Leaving the stream does not end the job."""
        return self._connection.submit(jobs.watched(self.name, self._call))

    async def result(self) -> R:
        """Wait for the job's end. Raises the error it ended in."""
        return await self.watch().result()

    async def info(self) -> JobInfo:
        """Its record: state, progress, times."""
        return await self._connection.run(jobs.get(self.name))

    async def cancel(self) -> bool:
        """End it within one step; False if it had ended."""
        return await self._connection.run(jobs.cancel(self.name))

    def __repr__(self) -> str:
        return f"AsyncJob({self.name!r})"


class AsyncKeeping:
    """Holds the leases of an asynchronous connection, and keeps it open while they are in use."""

    def __init__(self, line: Line, connection: "AsyncConnection") -> None:
        self._line = line
        self._connection = connection

    @property
    def instance(self) -> str:
        """The daemon that answers at the moment."""
        return self._line.welcome.instance

    def fetch_now(self, handle: Handle, instance: str) -> np.ndarray:
        """Refuses: waiting here would stop the event loop."""
        raise InvalidRequest(
            "this tensor is still in the daemon, and an event loop cannot wait for it",
            asked=handle.handle,
            hint="Use `await c.tensors.fetch(value)` first",
        )

    def lease(self, handle: str, instance: str) -> None:
        """Count a value that refers to `handle` of the daemon `instance`."""
        self._line.lease(handle, instance)

    def release(self, handle: str, instance: str) -> None:
        """Count one fewer."""
        self._line.release(handle, instance)


class AsyncConnection(Verbs):
    """A connection to a daemon for coroutines. Made by `connect_async()`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._keeper = AsyncKeeping(line, self)
        super().__init__(self)

    @property
    def welcome(self) -> Welcome:
        """What the daemon said last: version, instance, capabilities, limits, default model."""
        return self._line.welcome

    @property
    def endpoint(self) -> str:
        """Where the daemon is reached."""
        return self._line.endpoint

    @property
    def is_open(self) -> bool:
        """Whether the line is up at the moment; it comes back by itself once the daemon does."""
        return self._line.is_open

    def submit(self, call: Call[E, R]) -> AsyncStream[E, R]:
        """Send any call without waiting."""
        return AsyncStream(self._line, self._keeper, call)

    async def run(self, call: Call[Any, R]) -> R:
        """Send any call and wait for its result."""
        return await AsyncStream(self._line, self._keeper, call).result()

    async def detach(self, call: Call[E, R]) -> AsyncJob[E, R]:
        """Send any call on a model as a job."""
        return AsyncJob(self, await self.run(jobs.detached(call)), call)

    async def aclose(self) -> None:
        """Cancel what is in flight, release what is held, hang up."""
        await asyncio.to_thread(self._line.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if hasattr(self, "_line") and threading.main_thread().is_alive():
            self._line.close()

    def __repr__(self) -> str:
        return f"AsyncConnection({self.endpoint!r})"


class Connecting:
    """A connection in the making: `async with connect_async() as c`, or `await connect_async()`."""

    def __init__(self, reach: Callable[[], Line]) -> None:
        self._reach = reach
        self._connection: AsyncConnection | None = None

    async def _connect(self) -> AsyncConnection:
        line = await asyncio.to_thread(self._reach)
        self._connection = AsyncConnection(line)
        return self._connection

    def __await__(self) -> Generator[Any, None, AsyncConnection]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncConnection:
        return await self._connect()

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.aclose()

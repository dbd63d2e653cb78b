"""The synchronous connection: `with connect() as c: c.forward(...)`.

A connection may be used from any number of threads; each request in flight belongs to the thread
that made it. Ctrl-C, leaving a loop over a stream early, or dropping it cancels its request.
"""

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np

from circuit_client.call import Call
from circuit_client.inflight import Arrived, Folding, Item
from circuit_client.line import Line
from circuit_client.surface import Verbs
from circuit_client.verbs import jobs
from circuit_client.verbs.tensors import fetch_handle
from circuit_protocol.errors import CircuitError
from circuit_protocol.replies import AnyReply, JobInfo, Welcome
from circuit_protocol.tensors import Frame, Handle

E = TypeVar("E")
R = TypeVar("R")


class _Inbox:
    """Where the I/O thread leaves replies for the thread that waits for them."""

    def __init__(self) -> None:
        self.items: SimpleQueue[Item] = SimpleQueue()

    def deliver(self, reply: AnyReply, frames: Sequence[Frame]) -> None:
        self.items.put(Arrived(reply, frames))

    def fail(self, error: CircuitError) -> None:
        self.items.put(error)

    @property
    def is_empty(self) -> bool:
        return self.items.empty()


class Stream(Generic[E, R]):
    """A request in flight: iterate over its events, then take its `result()`.

    Closing it, leaving its `with` block or dropping it before the end cancels the request.
    """

    def __init__(
        self, line: Line, keeper: "Keeping", call: Call[E, R], *, attend: bool = False
    ) -> None:
        """With `attend` this thread will only wait, so it may serve the line meanwhile."""
        self._line = line
        self._folding = Folding(call, keeper)  # holds the connection, so that it stays open
        self._inbox = _Inbox()
        self._id = line.new_id()
        try:
            (line.ask if attend else line.submit)(self._id, call, self._inbox)
        except BaseException:  # Ctrl-C may come when the request is already on its way
            self.cancel()
            raise

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        while not self._folding.done:
            event = self._step()
            if event is not None:
                return event
        self._folding.result()  # raises what the request ended in
        raise StopIteration

    def _step(self) -> E | None:
        try:
            return self._folding.fold(self._inbox.items.get())
        except BaseException:  # Ctrl-C while waiting, or the caller's progress callback
            self.cancel()
            raise

    def result(self) -> R:
        """Wait for the end. Raises the error the request ended in."""
        while not self._folding.done:
            self._step()
        return self._folding.result()

    @property
    def done(self) -> bool:
        """Whether the result is known to this stream."""
        return self._folding.done

    def cancel(self) -> None:
        """Ask the daemon to end the request within one step; `result()` then raises Cancelled."""
        if not self._folding.done:
            self._line.cancel(self._id)

    close = cancel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_id"):
            self.cancel()


class Job(Generic[E, R]):
    """A request that runs on whether or not anybody is connected."""

    def __init__(self, connection: "Connection", name: str, call: Call[E, R]) -> None:
        self._connection = connection
        self._call = call
        #: By which any client can find the job.
        self.name = name

    def watch(self) -> Stream[E, R]:
        """Its progress from now on, and its result. Leaving the stream does not end the job."""
        return self._connection.submit(jobs.watched(self.name, self._call))

    def result(self) -> R:
        """Wait for the job's end. Raises the error it ended in."""
        return self.watch().result()

    def info(self) -> JobInfo:
        """Its record: state, progress, times."""
        return self._connection.run(jobs.get(self.name))

    def cancel(self) -> bool:
        """End it within one step; False if it had ended."""
        return self._connection.run(jobs.cancel(self.name))

    def __repr__(self) -> str:
        return f"Job({self.name!r})"


class Keeping:
    """Holds the leases of a synchronous connection, and fetches what is touched.

    A connection that nobody closes stays open as long as anything of it is in use: streams and
    values refer to this, and this to the connection.
    """

    def __init__(self, line: Line, connection: "Connection") -> None:
        self._line = line
        self._connection = connection

    @property
    def instance(self) -> str:
        """The daemon that answers at the moment."""
        return self._line.welcome.instance

    def fetch_now(self, handle: Handle, instance: str) -> np.ndarray:
        """The tensor's bytes, waited for."""
        call = fetch_handle(handle, instance)
        return Stream(self._line, self, call, attend=True).result()

    def lease(self, handle: str, instance: str) -> None:
        """Count a value that refers to `handle` of the daemon `instance`."""
        self._line.lease(handle, instance)

    def release(self, handle: str, instance: str) -> None:
        """Count one fewer."""
        self._line.release(handle, instance)


class Connection(Verbs):
    """A connection to a daemon. Made by `connect()`; closed by `close()` or its `with` block."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._keeper = Keeping(line, self)
        super().__init__(self)

    @property
    def welcome(self) -> Welcome:
        """What the daemon said last: version, instance, capabilities, limits, default model."""
        return self._line.welcome

    @property
    def endpoint(self) -> str:
        """Where the daemon is reached."""
        return self._line.endpoint

    def submit(self, call: Call[E, R]) -> Stream[E, R]:
        """Send any call without waiting."""
        return Stream(self._line, self._keeper, call)

    def run(self, call: Call[Any, R]) -> R:
        """Send any call and wait for its result."""
        return Stream(self._line, self._keeper, call, attend=True).result()

    def detach(self, call: Call[E, R]) -> Job[E, R]:
        """Send any call on a model as a job."""
        return Job(self, self.run(jobs.detached(call)), call)

    def close(self) -> None:
        """Cancel what is in flight, release what is held, hang up. Closing twice is harmless."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_line") and threading.main_thread().is_alive():
            self.close()

    def __repr__(self) -> str:
        return f"Connection({self.endpoint!r})"

"""The inbox: what the I/O thread received and the compute loop has not taken yet, and stop flags.

A cancel must not wait behind a long step, so it never enters the queue: the I/O thread sets the
item's `Stop`, which the engine asks between layers and the loop between steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

from circuit_protocol.tensors import Frame
from circuitd import work


class Stop:
    """Whether a work item shall end: set once by the I/O thread, read by anyone."""

    __slots__ = ("reason",)

    def __init__(self) -> None:
        self.reason: Literal["cancelled", "deadline_exceeded"] | None = None

    def __call__(self) -> bool:
        """Whether to stop; the form in which the engine asks."""
        return self.reason is not None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message of the front as it waits: its frames, and for a `Run` one stop flag per item."""

    message: work.Run | work.Load | work.Unload | work.Exit
    frames: Sequence[Frame] = ()
    stops: tuple[Stop, ...] = ()


class Inbox:
    """A queue with one producer (the I/O thread) and one consumer (the compute loop)."""

    def __init__(self) -> None:
        # SimpleQueue hands over in C: a waiting consumer wakes in microseconds, without polling.
        self._queue: SimpleQueue[Delivery] = SimpleQueue()
        #: One flag for each work item that has arrived and not been answered finally.
        self._stops: dict[int, Stop] = {}

    def put(self, message: work.ToWorker, frames: Sequence[Frame] = ()) -> None:
        """Take in a message; a cancel acts at once, and means nothing for an unknown item."""
        if isinstance(message, work.CancelWork):
            stop = self._stops.get(message.work)
            if stop is not None and stop.reason is None:
                stop.reason = message.reason
            return
        stops: tuple[Stop, ...] = ()
        if isinstance(message, work.Run):
            stops = tuple(Stop() for _ in message.items)
            self._stops.update(zip((item.work for item in message.items), stops, strict=True))
        self._queue.put(Delivery(message, frames, stops))

    def take(self, *, wait: bool) -> Delivery | None:
        """The oldest message; without one, wait for it or answer None."""
        try:
            return self._queue.get(block=wait)
        except Empty:
            return None

    def forget(self, number: int) -> None:
        """Work item `number` has its final answer: a later cancel of it means nothing."""
        self._stops.pop(number, None)

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Numbers of the work items that still owe their final answer."""
        return tuple(self._stops)

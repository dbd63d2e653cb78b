"""The inbox: what has arrived from the front and was not taken yet, and stop flags.

A cancel must not wait behind a long step, so it never enters the queue: it sets the item's `Stop`.
The engine asks that flag between layers and the loop between steps, and each time the inbox looks
whether anything has arrived. So the thread that computes hears everything itself, and no message
costs a hand-over between threads.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from circuit_protocol.tensors import Frame
from circuitd import work


class Stop:
    """Whether a work item shall end: set once, by the inbox."""

    __slots__ = ("_look", "reason")

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        """`look` takes in what has arrived, this item's cancel perhaps among it."""
        self._look = look
        self.reason: Literal["cancelled", "deadline_exceeded"] | None = None

    def __call__(self) -> bool:
        """Whether to stop; the form in which the engine asks."""
        if self.reason is None:
            self._look()
        return self.reason is not None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message of the front as it waits: its frames, and for a `Run` one stop flag per item."""

    message: work.Run | work.Load | work.Unload | work.Exit
    frames: Sequence[Frame] = ()
    stops: tuple[Stop, ...] = ()


class Inbox:
    """The messages of the front in their order. It belongs to the computing thread."""

    def __init__(self) -> None:
        self._queue: deque[Delivery] = deque()
        #: One flag for each work item that has arrived and not been answered finally.
        self._stops: dict[int, Stop] = {}
        #: `receive(wait)` puts what has arrived, and with `wait` stays until something has.
        self.receive: Callable[[bool], None] = lambda wait: None

    def put(self, message: work.ToWorker, frames: Sequence[Frame] = ()) -> None:
        """Take in a message; a cancel acts at once, and means nothing for an unknown item."""
        if isinstance(message, work.CancelWork):
            stop = self._stops.get(message.work)
            if stop is not None and stop.reason is None:
                stop.reason = message.reason
            return
        stops: tuple[Stop, ...] = ()
        if isinstance(message, work.Run):
            stops = tuple(Stop(self._look) for _ in message.items)
            self._stops.update(zip((item.work for item in message.items), stops, strict=True))
        self._queue.append(Delivery(message, frames, stops))

    def take(self, *, wait: bool) -> Delivery | None:
        """The oldest message; without one, wait for it or answer None."""
        if not self._queue:
            self.receive(wait)
        return self._queue.popleft() if self._queue else None

    def has_any(self) -> bool:
        """Whether a message is there to be taken; looks for new ones."""
        if not self._queue:
            self.receive(False)
        return bool(self._queue)

    def forget(self, number: int) -> None:
        """Work item `number` has its final answer: a later cancel of it means nothing."""
        self._stops.pop(number, None)

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Numbers of the work items that still owe their final answer."""
        return tuple(self._stops)

    def _look(self) -> None:
        self.receive(False)

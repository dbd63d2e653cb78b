"""What a request in flight means to its caller, synchronous or not: events, then one result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from circuit_client.call import Call, Received
from circuit_client.values import Keeper
from circuit_protocol.errors import CircuitError
from circuit_protocol.replies import AnyReply, Progress
from circuit_protocol.tensors import Frame

E = TypeVar("E")
R = TypeVar("R")


class Arrived(NamedTuple):
    """A reply on its way from the I/O thread to its caller."""

    reply: AnyReply
    frames: Sequence[Frame]


#: What a sink passes on: a reply, or the error that ends the request.
Item = Arrived | CircuitError


@dataclass(slots=True)
class Folding(Generic[E, R]):
    """Folds the replies to one call, in order, into events and a result."""

    call: Call[E, R]
    keeper: Keeper
    _result: R | None = None
    _error: CircuitError | None = None
    done: bool = False

    def fold(self, item: Item) -> E | None:
        """Take the next item; an event for the caller, or None. Sets `done` at the end."""
        if isinstance(item, CircuitError):
            self._error, self.done = item, True
            return None
        received = Received(item.reply, item.frames, self.keeper)
        if item.reply.final:
            self.done = True
            self._result = self.call.read_result(received)
            return None
        if isinstance(item.reply, Progress) and self.call.progress is not None:
            self.call.progress(item.reply)
        return self.call.read_event(received)

    def result(self) -> R:
        """The result, once `done`. Raises the error the request ended in."""
        if self._error is not None:
            raise self._error
        return self._result  # pyright: ignore[reportReturnType]  # R itself may be None

"""Where answers come from: a connection to the daemon, or a recorded session."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from circuit_client.call import Call
    from circuit_protocol.replies import Welcome

E = TypeVar("E")
R = TypeVar("R")
E_co = TypeVar("E_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


class Stream(Protocol[E_co, R_co]):
    """A request in flight, as `AsyncStream` is one."""

    def __aiter__(self) -> AsyncIterator[E_co]:
        """Its events."""
        ...

    async def result(self) -> R_co:
        """Its end."""
        ...

    def cancel(self) -> None:
        """End it early."""
        ...


class Source(Protocol):
    """Where answers come from: `AsyncConnection`, or a recorded session."""

    @property
    def welcome(self) -> "Welcome":
        """What the daemon said of itself."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it is."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the line is up at this moment."""
        ...

    def submit(self, call: "Call[E, R]") -> Stream[E, R]:
        """Ask without waiting."""
        ...

    async def aclose(self) -> None:
        """Hang up."""
        ...


class Ask(Protocol):
    """Puts a question to a source: plainly, or so that it is recorded."""

    def __call__(self, source: Source, call: "Call[E, R]") -> Stream[E, R]:
        """Ask without waiting."""
        ...


def ask_plainly(source: Source, call: "Call[E, R]") -> Stream[E, R]:
    """Only ask."""
    return source.submit(call)

"""Who wants the answers of a work item: a client's open request, or a job."""

from __future__ import annotations

from typing import Protocol

from circuit_protocol.errors import CircuitError
from circuit_protocol.tensors import Frame
from circuitd.server.scheduler import ClientId
from circuitd.store.results import StoredReply


class Owner(Protocol):
    """Told of everything that happens to its item; one of the calls that end it comes once."""

    #: Who leases the tensors the answers name.
    lessee: ClientId
    #: Whether it goes on at the daemon's next start (a job).
    outlives_daemon: bool

    @property
    def is_waiting(self) -> bool:
        """Whether anyone still hears what it is told."""
        ...

    def started(self) -> None:
        """A worker has begun."""
        ...

    def answered(
        self, header: bytes, frames: tuple[Frame, ...], *, final: bool, error: bool
    ) -> None:
        """A reply to pass on. A final one ends it; `error` marks one that says what went wrong."""
        ...

    def from_cache(self, reply: StoredReply) -> None:
        """A stored reply; ends it."""
        ...

    def failed(self, error: CircuitError) -> None:
        """It came to nothing; ends it."""
        ...

    def lost_worker(self) -> None:
        """The worker was lost; it waits for another."""
        ...

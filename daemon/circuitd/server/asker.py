"""A client's open request as the owner of a work item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_protocol.errors import CircuitError
from circuit_protocol.tensors import Frame
from circuitd.server.replies import OpenRequest, rewritten
from circuitd.store.results import StoredReply

if TYPE_CHECKING:
    from circuitd.server.front import Front


class Asker:
    """Passes on to the client what becomes of its request."""

    def __init__(self, front: Front, entry: OpenRequest) -> None:
        self._front = front
        self._entry = entry
        self.lessee = entry.client
        self.outlives_daemon = False

    @property
    def is_waiting(self) -> bool:
        """Whether the request is open still: its client may have left, or cancelled it."""
        return self._front.book.is_open(self._entry)

    def started(self) -> None:
        """Nothing to tell the client."""

    def answered(
        self, header: bytes, frames: tuple[Frame, ...], *, final: bool, error: bool
    ) -> None:
        """Pass a worker's reply on."""
        self._front.pass_on(self._entry, header, frames, final=final, error=error)

    def from_cache(self, reply: StoredReply) -> None:
        """Answer with a stored reply, under this request's id."""
        header = rewritten(reply.header, request_id=self._entry.request_id, seq=0, cached=True)
        self._front.pass_on(self._entry, header, reply.frames, final=True)

    def failed(self, error: CircuitError) -> None:
        """End the request with an error."""
        self._front.fail(self._entry, error)

    def lost_worker(self) -> None:
        """The client just waits a little longer."""

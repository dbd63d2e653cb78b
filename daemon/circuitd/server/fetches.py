"""A held tensor on its way to a client: which chunk is next, and whether the client has room.

A pure state machine. A fetch sends at most as many chunks as the client gave credit for; so the
client decides how much is on the way, a slow one holds up nobody, and nothing piles up here.
"""

from dataclasses import dataclass

from circuit_protocol.errors import InvalidRequest

#: Credit a client can have at once: what a `credit` message may add in all.
MAX_CREDIT = 65536


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """The bytes of one chunk. The last one of a fetch is `final`."""

    offset: int
    nbytes: int
    final: bool


class Fetch:
    """One `tensor.fetch` of bytes [offset, end) of a tensor."""

    def __init__(
        self, total_nbytes: int, *, offset: int, nbytes: int | None, chunk_nbytes: int, credit: int
    ) -> None:
        """Raises InvalidRequest when the asked range is not inside the tensor."""
        end = total_nbytes if nbytes is None else offset + nbytes
        if offset > total_nbytes or end > total_nbytes:
            raise InvalidRequest(
                "the range is not inside the tensor",
                asked=f"bytes {offset} to {end}",
                found=f"{total_nbytes} bytes",
            )
        self.chunk_nbytes = chunk_nbytes
        #: First byte not sent yet; never beyond `end`.
        self.next = offset
        self.end = end
        #: Chunks the client has room for.
        self.credit = credit
        self.is_done = False

    def grant(self, chunks: int) -> None:
        """The client has room for more."""
        self.credit = min(MAX_CREDIT, self.credit + chunks)

    def take(self) -> ChunkSpan | None:
        """The chunk to send now; None when there is no credit or nothing left."""
        if self.is_done or not self.credit:
            return None
        nbytes = min(self.chunk_nbytes, self.end - self.next)
        span = ChunkSpan(self.next, nbytes, final=self.next + nbytes == self.end)
        self.next += nbytes
        self.credit -= 1
        self.is_done = span.final
        return span

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        assert 0 <= self.next <= self.end
        assert 0 <= self.credit <= MAX_CREDIT
        assert not self.is_done or self.next == self.end

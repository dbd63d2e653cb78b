"""The book of open requests: each gets its replies numbered, and exactly one final one.

Whatever answers a request, a worker or the front, its replies pass through here: what comes after
the final reply is dropped, and progress is thinned to ten a second.

A worker encodes its replies itself and numbers them 0, 1, 2, …, so the front usually passes the
bytes on unread. Only where the front withheld progress, or answers another request with a stored
reply, is the header rewritten: `rewritten` takes the map apart one level deep, changes `id`, `seq`
or `cached`, and copies all other values as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from circuit_protocol.errors import CircuitError, Conflict
from circuit_protocol.tensors import Frame
from circuitd.server.scheduler import ClientId

#: Progress replies a request may send per second.
PROGRESS_PER_S: Final = 10.0

_encoder: Final = msgspec.msgpack.Encoder()
_shallow: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


class _Typed(msgspec.Struct):
    type: str = ""


_typed: Final = msgspec.msgpack.Decoder(_Typed)


def reply_type(header: bytes) -> str:
    """The `type` of an encoded reply."""
    return _typed.decode(header).type


def rewritten(
    header: bytes,
    *,
    request_id: str | None = None,
    seq: int | None = None,
    final: bool | None = None,
    cached: bool | None = None,
) -> bytes:
    """An encoded reply with some of its common fields changed; nothing else is decoded."""
    fields = _shallow.decode(header)
    for name, value in (("id", request_id), ("seq", seq), ("final", final), ("cached", cached)):
        if value is not None:
            fields[name] = msgspec.Raw(_encoder.encode(value))
    return _encoder.encode(fields)


#: Called with the reply that ended a request, and whether it was an error.
OnFinal = Callable[[bytes, tuple[Frame, ...], CircuitError | None], None]


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request without its final reply yet."""

    client: ClientId
    request_id: str
    type: str
    opened_at: float
    #: Number of the next reply.
    seq: int = 0
    #: How to end it early, told why; None: it is answered within this turn of the loop.
    stop: Callable[[CircuitError], None] | None = None
    on_final: OnFinal | None = None
    last_progress_at: float = float("-inf")
    #: Replies of its worker that were not passed on: the numbers no longer agree.
    withheld: int = 0


class ReplyBook:
    """All open requests, by client and id."""

    def __init__(self) -> None:
        #: No entry is empty.
        self.by_client: dict[ClientId, dict[str, OpenRequest]] = {}
        self.completed = 0
        self.failed = 0

    def open(self, client: ClientId, request_id: str, type_: str, now: float) -> OpenRequest:
        """A request has come. Raises Conflict when its id is that of an unfinished one."""
        mine = self.by_client.setdefault(client, {})
        if request_id in mine:
            raise Conflict(
                "another unfinished request has this id",
                asked=request_id,
                hint="Ids must be unique among a client's unfinished requests",
            )
        entry = OpenRequest(client, request_id, type_, now)
        mine[request_id] = entry
        return entry

    def get(self, client: ClientId, request_id: str) -> OpenRequest | None:
        """An open request, or None."""
        return self.by_client.get(client, {}).get(request_id)

    def is_open(self, entry: OpenRequest) -> bool:
        """Whether this very request still waits for its final reply."""
        return self.get(entry.client, entry.request_id) is entry

    def number(self, entry: OpenRequest, *, final: bool, failed: bool = False) -> int | None:
        """The number of the reply that is about to be sent; None: it comes too late, drop it."""
        if not self.is_open(entry):
            return None
        seq = entry.seq
        entry.seq += 1
        if final:
            self._remove(entry)
            if failed:
                self.failed += 1
            else:
                self.completed += 1
        return seq

    def may_report(self, entry: OpenRequest, now: float) -> bool:
        """Whether a progress reply may be sent now; counts it if so."""
        if now - entry.last_progress_at < 1 / PROGRESS_PER_S:
            return False
        entry.last_progress_at = now
        return True

    def close_client(self, client: ClientId) -> tuple[OpenRequest, ...]:
        """A client has gone: its open requests, which get no replies any more."""
        return tuple(self.by_client.pop(client, {}).values())

    def of_client(self, client: ClientId) -> int:
        """How many requests of a client are open."""
        return len(self.by_client.get(client, ()))

    def __iter__(self) -> Iterator[OpenRequest]:
        """All open requests."""
        for mine in self.by_client.values():
            yield from mine.values()

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        assert all(self.by_client.values()), "an empty entry was kept"
        for client, mine in self.by_client.items():
            assert all(e.client == client and e.request_id == i for i, e in mine.items())

    def _remove(self, entry: OpenRequest) -> None:
        mine = self.by_client[entry.client]
        del mine[entry.request_id]
        if not mine:
            del self.by_client[entry.client]

"""Answers to requests that may come twice: the second try gets what the first one got.

A pure state machine. A key belongs to a *principal*, the person behind a connection (a CURVE key,
or this machine's user), because the retry usually comes over a new connection. Only final replies
are kept, for an hour, within a bound of bytes; an error that says "try again" is not, and neither
is the end of a request whose client left.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from circuit_protocol.errors import Conflict
from circuit_protocol.tensors import Frame

Principal = str
#: A request that waits for the first try's answer.
Waiter = TypeVar("Waiter")

REMEMBER_S = 3600.0
MAX_ENTRIES = 4096
MAX_NBYTES = 64 << 20
#: A reply larger than this is not kept: the retry is carried out again.
MAX_REPLY_NBYTES = 8 << 20


@dataclass(slots=True)
class _Entry(Generic[Waiter]):
    digest: bytes
    began_at: float
    header: bytes | None = None
    frames: tuple[Frame, ...] = ()
    waiters: list[Waiter] = field(default_factory=list)
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first try's final reply (its header names the first try's id)."""

    header: bytes
    frames: tuple[Frame, ...]


class Idempotency(Generic[Waiter]):
    """Keys and what became of them, oldest first."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_nbytes: int = MAX_NBYTES) -> None:
        self.max_entries = max_entries
        self.max_nbytes = max_nbytes
        self.entries: OrderedDict[tuple[Principal, str], _Entry[Waiter]] = OrderedDict()
        #: Sum over finished entries.
        self.nbytes = 0

    def begin(
        self, principal: Principal, key: str, digest: bytes, waiter: Waiter, now: float
    ) -> Remembered | bool | None:
        """A request with a key arrives. `digest` is that of what it asks, without its id.

        None: it is the first, carry it out and call `finish` or `forget`. True: the first try still
        runs, and `finish` will name this request among the waiters. Remembered: answer with that.
        Raises Conflict when the key was used for another question.
        """
        self._expire(now)
        entry = self.entries.get((principal, key))
        if entry is None:
            self.entries[principal, key] = _Entry(digest, now)
            self._shrink()
            return None
        if entry.digest != digest:
            raise Conflict("this idempotency key was used for another request", asked=key)
        if entry.header is None:
            entry.waiters.append(waiter)
            return True
        return Remembered(entry.header, entry.frames)

    def finish(
        self, principal: Principal, key: str, header: bytes, frames: tuple[Frame, ...]
    ) -> list[Waiter]:
        """The first try was answered: remember that; returns who waits for the same answer."""
        entry = self.entries.get((principal, key))
        if entry is None or entry.header is not None:
            return []
        waiters, entry.waiters = entry.waiters, []
        entry.nbytes = len(header) + sum(memoryview(f).nbytes for f in frames)
        if entry.nbytes > MAX_REPLY_NBYTES:
            del self.entries[principal, key]
        else:
            entry.header = header
            entry.frames = tuple(bytes(f) for f in frames)
            self.nbytes += entry.nbytes
            self._shrink()
        return waiters

    def forget(self, principal: Principal, key: str) -> list[Waiter]:
        """The first try came to nothing that would stay true; returns who waits for its answer."""
        entry = self.entries.get((principal, key))
        if entry is None or entry.header is not None:
            return []
        del self.entries[principal, key]
        return entry.waiters

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        finished = [e for e in self.entries.values() if e.header is not None]
        assert self.nbytes == sum(e.nbytes for e in finished) <= self.max_nbytes
        assert len(finished) <= self.max_entries
        assert not any(e.waiters for e in finished)

    def _expire(self, now: float) -> None:
        for name, entry in list(self.entries.items()):
            if now - entry.began_at < REMEMBER_S:
                return
            if entry.header is not None:
                self._drop(name)

    def _shrink(self) -> None:
        """Drop the oldest finished entries beyond the bounds; the queues bound unfinished ones."""
        for name, entry in list(self.entries.items()):
            if len(self.entries) <= self.max_entries and self.nbytes <= self.max_nbytes:
                return
            if entry.header is not None:
                self._drop(name)

    def _drop(self, name: tuple[Principal, str]) -> None:
        self.nbytes -= self.entries.pop(name).nbytes

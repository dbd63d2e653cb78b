"""Who holds which tensors: leased by clients, shared with the result cache, bounded in bytes.

A pure state machine. A held tensor lives as long as somebody leases it (a connection that got its
handle, or a job) or the result cache keeps an answer that names it; what nobody leases is evicted,
the one unused for longest first, when new tensors need its room. What dies is returned, and the
caller deletes the file. Held tensors are also the cache of recorded activations (`cache.*`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from circuit_protocol.errors import NotFound, OutOfMemory
from circuitd.server.scheduler import ClientId
from circuitd.work import Segment


@dataclass(slots=True)
class Held:
    """One tensor and who needs it."""

    segment: Segment
    created_at: float
    last_used_at: float
    holders: dict[ClientId, None] = field(default_factory=dict)
    #: Whether the result cache has an answer that names it.
    cached: bool = False
    pinned: bool = False
    uses: int = 0


class Leases:
    """All held tensors by handle."""

    def __init__(self, budget_nbytes: int, client_nbytes: int) -> None:
        self.budget_nbytes = budget_nbytes
        self.client_nbytes = client_nbytes
        self.held: dict[str, Held] = {}
        #: The handles each client leases: the inverse of `holders`; no entry is empty.
        self.by_client: dict[ClientId, dict[str, None]] = {}
        #: Sum of the sizes of all held tensors.
        self.nbytes = 0
        self.evictions = self.hits = self.misses = 0

    def add(self, client: ClientId, segments: Sequence[Segment], now: float) -> list[Segment]:
        """New tensors, leased by `client`; returns what was evicted for them.

        Raises OutOfMemory, and holds none of them, when the client's or the whole bound would be
        passed even so: the caller deletes them.
        """
        wanted = sum(s.nbytes for s in segments)
        mine = self.client_held_nbytes(client)
        if mine + wanted > self.client_nbytes:
            raise _too_much(wanted, f"{mine} of {self.client_nbytes} bytes leased by this client")
        evictable = sum(h.segment.nbytes for h in self.held.values() if _is_evictable(h))
        if self.nbytes - evictable + wanted > self.budget_nbytes:
            raise _too_much(wanted, f"{self.nbytes} of {self.budget_nbytes} bytes held in all")
        gone = self.evict_unleased(self.nbytes + wanted - self.budget_nbytes)
        for segment in segments:
            self.held[segment.handle] = Held(segment, now, now)
            self.nbytes += segment.nbytes
            self._lease(client, segment.handle)
        return gone

    def share(self, client: ClientId, handles: Iterable[str], now: float) -> bool:
        """Lease tensors that are held already to another client; False, and no lease, if not all
        are still there or the client's bound would be passed.
        """
        names = list(handles)
        if any(name not in self.held for name in names):
            return False
        new = [n for n in names if client not in self.held[n].holders]
        wanted = sum(self.held[n].segment.nbytes for n in new)
        if self.client_held_nbytes(client) + wanted > self.client_nbytes:
            return False
        for name in names:
            self._lease(client, name)
            self.held[name].last_used_at = now
        return True

    def use(self, client: ClientId, handle: str, now: float) -> Segment:
        """The tensor behind a handle, for its leaseholder. Raises NotFound.

        Handles are random and given to one client only, so what another client leases is unknown
        to this one.
        """
        held = self.held.get(handle)
        if held is None or client not in held.holders:
            self.misses += 1
            raise NotFound(
                "this tensor is not held for this client",
                asked=handle[:80],
                hint="Handles end when released, with their connection and with the daemon",
            )
        held.last_used_at = now
        held.uses += 1
        self.hits += 1
        return held.segment

    def release(self, client: ClientId, handles: Iterable[str]) -> tuple[int, list[Segment]]:
        """End leases of a client: how many there were, and the tensors that die of it."""
        ended, dead = 0, []
        for handle in handles:
            held = self.held.get(handle)
            if held is None or client not in held.holders:
                continue
            ended += 1
            self._unlease(client, held)
            if not held.holders and not held.cached and not held.pinned:
                dead.append(self._forget(held))
        return ended, dead

    def release_all(self, client: ClientId) -> list[Segment]:
        """A client has gone: the tensors that die of it."""
        return self.release(client, tuple(self.by_client.get(client, ())))[1]

    def keep_for_cache(self, segments: Iterable[Segment]) -> None:
        """The result cache has an answer that names these."""
        for segment in segments:
            if (held := self.held.get(segment.handle)) is not None:
                held.cached = True

    def cache_let_go(self, segments: Iterable[Segment]) -> list[Segment]:
        """The result cache has dropped its answer: the tensors that die of it."""
        dead = []
        for segment in segments:
            held = self.held.get(segment.handle)
            if held is not None and held.cached:
                held.cached = False
                if not held.holders and not held.pinned:
                    dead.append(self._forget(held))
        return dead

    def pin(self, handle: str, pinned: bool) -> list[Segment]:
        """Exempt a held tensor from eviction, or undo that: the tensors that die of it."""
        held = self.held[handle]
        held.pinned = pinned
        return [] if held.holders or held.cached or pinned else [self._forget(held)]

    def evict(self, handle: str) -> Segment | None:
        """Drop a tensor whoever leases it; None if it is not held."""
        held = self.held.get(handle)
        return self._forget(held) if held is not None else None

    def evict_unleased(self, nbytes: int | None = None) -> list[Segment]:
        """Drop tensors nobody leases, until `nbytes` are free (None: all), oldest use first."""
        gone: list[Segment] = []
        freed = 0
        for held in sorted(self.held.values(), key=lambda h: h.last_used_at):
            if nbytes is not None and freed >= nbytes:
                break
            if _is_evictable(held):
                gone.append(self._forget(held))
                freed += held.segment.nbytes
                self.evictions += 1
        return gone

    def client_held_nbytes(self, client: ClientId) -> int:
        """Bytes of the tensors a client leases, shared ones counted in full."""
        return sum(self.held[h].segment.nbytes for h in self.by_client.get(client, ()))

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        assert self.nbytes == sum(h.segment.nbytes for h in self.held.values())
        assert self.nbytes <= self.budget_nbytes
        pairs = {(c, handle) for handle, h in self.held.items() for c in h.holders}
        assert pairs == {(c, handle) for c, hs in self.by_client.items() for handle in hs}
        assert all(self.by_client.values()), "an empty entry was kept"
        for held in self.held.values():
            assert held.holders or held.cached or held.pinned, "nobody needs this tensor"
        for client in self.by_client:
            assert self.client_held_nbytes(client) <= self.client_nbytes

    def _lease(self, client: ClientId, handle: str) -> None:
        self.held[handle].holders[client] = None
        self.by_client.setdefault(client, {})[handle] = None

    def _unlease(self, client: ClientId, held: Held) -> None:
        del held.holders[client]
        mine = self.by_client[client]
        del mine[held.segment.handle]
        if not mine:
            del self.by_client[client]

    def _forget(self, held: Held) -> Segment:
        for client in tuple(held.holders):
            self._unlease(client, held)
        del self.held[held.segment.handle]
        self.nbytes -= held.segment.nbytes
        return held.segment


def _is_evictable(held: Held) -> bool:
    return not held.holders and not held.pinned


def _too_much(nbytes: int, found: str) -> OutOfMemory:
    return OutOfMemory(
        "there is no room to hold this result",
        asked=f"{nbytes} bytes",
        found=found,
        hint="Release handles, or record fewer sites, positions or rows",
    )

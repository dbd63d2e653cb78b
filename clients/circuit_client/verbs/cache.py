"""`cache.*`: what the daemon remembers, and letting go of it."""

from circuit_client.call import UNSENT_ID, Call, Received, progress_only, read_done, whole
from circuit_protocol.replies import (
    CacheEntries,
    CacheEntry,
    CacheFreed,
    CacheKindStats,
    CacheReport,
    Progress,
)
from circuit_protocol.requests import (
    CacheClear,
    CacheEvict,
    CacheKind,
    CacheList,
    CachePin,
    CacheStats,
)


def stats() -> Call[Progress, tuple[CacheKindStats, ...]]:
    """Entries, bytes, budget, hits and misses of each kind of cache."""

    def read(received: Received) -> tuple[CacheKindStats, ...]:
        return received.expect(CacheReport).kinds

    return Call(CacheStats(id=UNSENT_ID), read, progress_only)


def list_entries(kind: CacheKind, *, limit: int = 100) -> Call[Progress, tuple[CacheEntry, ...]]:
    """Entries of one kind, most recently used first."""

    def read(received: Received) -> tuple[CacheEntry, ...]:
        return received.expect(CacheEntries).entries

    return Call(CacheList(id=UNSENT_ID, kind=kind, limit=limit), read, progress_only)


def pin(kind: CacheKind, key: str, *, pinned: bool = True) -> Call[Progress, bool]:
    """Exempt an entry from eviction, or undo that with `pinned=False`."""
    request = CachePin(id=UNSENT_ID, kind=kind, key=key, pinned=pinned)
    return Call(request, read_done, progress_only)


def evict(kind: CacheKind, key: str) -> Call[Progress, CacheFreed]:
    """Drop one entry."""
    request = CacheEvict(id=UNSENT_ID, kind=kind, key=key)
    return Call(request, whole(CacheFreed), progress_only, resend=False)


def clear(kind: CacheKind | None = None) -> Call[Progress, CacheFreed]:
    """Drop every unpinned entry of a kind (None: of all kinds)."""
    request = CacheClear(id=UNSENT_ID, kind=kind)
    return Call(request, whole(CacheFreed), progress_only, resend=False)

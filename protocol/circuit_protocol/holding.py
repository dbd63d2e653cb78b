"""What the daemon holds for clients: tensors under handles, and caches with their entries."""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.interventions import Values
from circuit_protocol.messages import CacheKind, Name, Reply, Request
from circuit_protocol.tensors import Tensor


class Fetch(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.fetch"):
    """The bytes of a held tensor from `offset` on, in chunks of `chunk_nbytes`.

    At most `credit` chunks are sent before the client allows more with `credit` messages.
    """

    handle: str
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    nbytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    chunk_nbytes: Annotated[int, msgspec.Meta(ge=1024, le=8 << 20)] = 2 << 20
    credit: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 16


class Credit(Request, frozen=True, kw_only=True, omit_defaults=True, tag="credit"):
    """Allow the fetch with id `id` to send `chunks` more chunks. Has no reply of its own."""

    chunks: Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Chunk(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.chunk"):
    """Bytes of a held tensor, in frame 1. The last one is final."""

    offset: int
    nbytes: int


class MapTensor(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.map"):
    """Where the bytes of a held tensor lie, for a client on the daemon's machine that maps them.

    Only over ipc, where the welcome's `capabilities` name it; elsewhere it is `forbidden`.
    """

    handle: str


class Mapped(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.mapped"):
    """Answers tensor.map: a file of `nbytes` that holds what frames would, to be read only."""

    path: str
    nbytes: int


class Reduce(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.reduce"):
    """A view or a summary of a held tensor, computed in the daemon.

    "slice" takes start/stop/step per dimension; "top_k" the `k` largest magnitudes with their
    indices; "norm" and "mean" reduce `axis`; "quantiles" answers `quantiles` of all entries;
    "project" multiplies the last axis by `directions` [n, width].
    """

    handle: str
    how: Literal["slice", "top_k", "norm", "mean", "quantiles", "project"]
    slices: tuple[tuple[int | None, int | None, int | None], ...] = ()
    k: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 16
    axis: int = -1
    quantiles: tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    directions: Tensor | None = None


class Reduced(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.reduced"):
    """Answers tensor.reduce; top_k also gives `indices` [k, ndim]."""

    value: Values
    indices: Tensor | None = None


class Release(Request, frozen=True, kw_only=True, omit_defaults=True, tag="tensor.release"):
    """Let go of held tensors; unknown handles are not an error (release is idempotent)."""

    handles: tuple[str, ...]


class CacheStats(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.stats"):
    """Entries, bytes, budget, hits and misses of each kind of cache."""


class CacheKindStats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One kind of cache: `nbytes` in memory, `disk_nbytes` on disk."""

    kind: CacheKind
    entries: int
    nbytes: int
    budget_nbytes: int
    disk_nbytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0


class CacheReport(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="cache.report"):
    """Answers cache.stats."""

    kinds: tuple[CacheKindStats, ...]


class CacheList(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.list"):
    """Entries of one kind, most recently used first."""

    kind: CacheKind
    limit: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 100


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing in a cache."""

    key: str
    nbytes: int
    description: str = ""
    pinned: bool = False
    hits: int = 0
    age_s: float = 0.0


class CacheEntries(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="cache.entries"):
    """Answers cache.list."""

    kind: CacheKind
    entries: tuple[CacheEntry, ...]


class CachePin(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.pin"):
    """Exempt an entry from eviction (or undo that)."""

    kind: CacheKind
    key: Name
    pinned: bool = True


class CacheEvict(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.evict"):
    """Drop one entry."""

    kind: CacheKind
    key: Name


class CacheClear(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cache.clear"):
    """Drop every unpinned entry of a kind (None: of all kinds)."""

    kind: CacheKind | None = None


class CacheFreed(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="cache.freed"):
    """Answers cache.evict and cache.clear."""

    entries: int
    nbytes: int

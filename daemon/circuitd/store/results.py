"""The result cache: answers under the digest of their question, in memory and on disk.

A key is a digest of everything that decides the answer, the model's hash included, so an entry is
never wrong, only unused; the cache decides what stays. Both tiers are least-recently-used within a
byte budget. The memory tier answers at once; the disk tier is read in a thread and written by one
writer thread behind the request's back, and survives restarts (its index is the directory listing:
names are keys, modification times the order of use, the suffix says whether an entry is pinned).

Nothing here makes a request fail. A damaged file is dropped and counts as a miss; a full or
read-only disk turns writing off for a while, with a warning in the log.

An answer that names held tensors (segments) lives in memory only, since handles end with the
daemon; the cache holds the segments as long as the entry lives and gives them back through
`on_release`.
"""

import asyncio
import errno
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from circuit_protocol.replies import CacheEntry, CacheKindStats
from circuitd.store.reply_file import (
    TEMPORARY_PREFIX,
    Buffer,
    Damaged,
    is_key,
    read_description,
    read_reply,
    write_reply,
)
from circuitd.work import Segment

log = logging.getLogger(__name__)

_SUFFIX: Final = ".reply"
_PINNED_SUFFIX: Final = ".pinned"
#: An answer larger than this share of a tier's budget would only drive everything else out.
_LARGEST_SHARE: Final = 0.25
#: How long the disk is left alone after it refused a write.
_DISK_PAUSE_S: Final = 300.0
#: Bytes that may wait for the writer thread; what comes on top is not written to disk.
_MAX_BACKLOG_NBYTES: Final = 64 << 20
#: A temporary file older than this belongs to no writer that still lives.
_STALE_TEMPORARY_S: Final = 3600.0


class StoredReply(msgspec.Struct, frozen=True, kw_only=True):
    """A final reply as it was sent: encoded header (under the first asker's id) and frames.

    `segments` are the held tensors its header names.
    """

    header: bytes
    frames: tuple[Buffer, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of header and frames; segments are counted where they are held."""
        return len(self.header) + sum(memoryview(frame).nbytes for frame in self.frames)


class _Entry(msgspec.Struct, kw_only=True):
    """What is known about a key, in whichever tiers it is."""

    #: None: not in memory.
    reply: StoredReply | None = None
    #: Size of the file; 0: not on disk.
    disk_nbytes: int = 0
    #: The writer thread has it, or will: the entry stays even when memory lets go of the answer.
    is_being_written: bool = False
    pinned: bool = False
    hits: int = 0
    description: str | None = None
    stored_at_s: float = 0.0


class ResultCache:
    """Answers by key. Safe from several threads; only `read`, `flush` and `close` may block.

    Invariants, under the lock: `_memory_nbytes` and `_disk_nbytes` are the sums over entries; an
    entry is in at least one tier or being written; `_entries` is ordered by use, oldest first.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        memory_nbytes: int,
        disk_nbytes: int,
        on_release: Callable[[Sequence[Segment]], None] | None = None,
    ) -> None:
        """`directory` None, or a budget of 0, means no such tier. `on_release` must not block."""
        self._directory = directory if disk_nbytes else None
        self._memory_budget_nbytes = memory_nbytes
        self._disk_budget_nbytes = disk_nbytes if self._directory else 0
        self._on_release = on_release
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.RLock()
        self._memory_nbytes = 0
        self._disk_nbytes = 0
        self._backlog_nbytes = 0
        self._hits = self._misses = self._evictions = 0
        self._disk_resumes_at_s = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="result-cache")
        if self._directory is not None:
            self._index_directory(self._directory)

    # ------------------------------------------------------------------------- asking and storing

    def peek(self, key: str) -> StoredReply | None:
        """The answer if it is in memory: at once. Counts a hit, but no miss."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.reply is None:
                return None
            self._count_hit(key, entry)
            return entry.reply

    def read(self, key: str) -> StoredReply | None:
        """The answer from memory or disk, or None. May read a file: not for an event loop."""
        if (reply := self.peek(key)) is not None:
            return reply
        reply = self._read_file(key)
        with self._lock:
            entry = self._entries.get(key)
            if reply is None or entry is None:
                self._misses += 1
                return None
            self._count_hit(key, entry)
            if entry.reply is None and self._fits_memory(reply):
                entry.reply = reply
                self._memory_nbytes += reply.nbytes
                self._shrink_memory()
        return reply

    async def get(self, key: str) -> StoredReply | None:
        """The answer from memory or disk, or None; files are read in a thread."""
        if (reply := self.peek(key)) is not None:
            return reply
        if not self.is_on_disk(key):
            return None
        return await asyncio.to_thread(self.read, key)

    def is_on_disk(self, key: str) -> bool:
        """Whether `get` would read a file for this key; counts a miss if not. At once."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.disk_nbytes:
                self._misses += 1
                return False
            return True

    def put(self, key: str, reply: StoredReply, *, description: str = "") -> None:
        """Keep an answer: in memory at once, on disk soon. Never blocks, never fails."""
        if not is_key(key):
            raise ValueError(f"{key!r} is no cache key")
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.reply is not None:
                if entry.reply.segments != reply.segments:
                    self._release(reply.segments)  # the answer that is there already stays
                return
            if entry is None:
                entry = self._entries[key] = _Entry(
                    description=description, stored_at_s=time.time()
                )
            self._entries.move_to_end(key)
            if self._fits_memory(reply):
                entry.reply = reply
                self._memory_nbytes += reply.nbytes
                self._shrink_memory()
            else:
                self._release(reply.segments)
            if not entry.disk_nbytes and not entry.is_being_written and self._may_write(reply):
                entry.is_being_written = True
                self._backlog_nbytes += reply.nbytes
                self._writer.submit(self._write_file, key, entry, reply, description)
            self._forget_if_nowhere(key, entry)

    # ---------------------------------------------------------------------------------- managing

    def entries(self, limit: int = 100) -> list[CacheEntry]:
        """The most recently used first. Reads up to `limit` file heads: not for an event loop."""
        now = time.time()
        with self._lock:
            newest = [(k, self._entries[k]) for k in list(reversed(self._entries))[:limit]]
        return [
            CacheEntry(
                key=key,
                nbytes=entry.reply.nbytes if entry.reply is not None else entry.disk_nbytes,
                description=self._description(key, entry),
                pinned=entry.pinned,
                hits=entry.hits,
                age_s=max(0.0, now - entry.stored_at_s),
            )
            for key, entry in newest
        ]

    @property
    def memory_nbytes(self) -> int:
        """Bytes of the answers in memory."""
        return self._memory_nbytes

    def stats(self) -> CacheKindStats:
        """Entries, bytes, hits and misses since the start. `budget_nbytes` is the memory tier's."""
        with self._lock:
            return CacheKindStats(
                kind="results",
                entries=len(self._entries),
                nbytes=self._memory_nbytes,
                budget_nbytes=self._memory_budget_nbytes,
                disk_nbytes=self._disk_nbytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
            )

    def pin(self, key: str, pinned: bool = True) -> bool:
        """Exempt an entry from eviction, or undo that; whether there is such an entry."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return False
            if entry.pinned != pinned and entry.disk_nbytes:
                old = self._path(key, entry.pinned)
                self._try_disk(lambda: old.rename(self._path(key, pinned)))
            entry.pinned = pinned
            return True

    def evict(self, key: str) -> int | None:
        """Drop one entry, pinned or not, from both tiers: bytes freed, None if it was unknown."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return None
            freed = self._drop_memory(entry)
            return freed + self._drop_file(key, entry)

    def clear(self) -> tuple[int, int]:
        """Drop all unpinned entries: how many, and their bytes."""
        with self._lock:
            keys = [key for key, entry in self._entries.items() if not entry.pinned]
            return len(keys), sum(self.evict(key) or 0 for key in keys)

    def forget_segments(self, handles: Iterable[str]) -> int:
        """Drop the answers that name any of these held tensors; how many."""
        gone = set(handles)
        with self._lock:
            keys = [
                key
                for key, entry in self._entries.items()
                if entry.reply is not None and gone & {s.handle for s in entry.reply.segments}
            ]
            for key in keys:
                self.evict(key)
        return len(keys)

    def flush(self) -> None:
        """Wait until everything put so far is on disk, or has been given up."""
        done: Future[None] = self._writer.submit(lambda: None)
        done.result()

    def close(self) -> None:
        """Finish the writes and end the writer thread. Segments are left alone."""
        self._writer.shutdown(wait=True)

    # ------------------------------------------------------------------------------------ memory

    def _fits_memory(self, reply: StoredReply) -> bool:
        return reply.nbytes <= self._memory_budget_nbytes * _LARGEST_SHARE

    def _shrink_memory(self) -> None:
        if self._memory_nbytes <= self._memory_budget_nbytes:
            return
        for key, entry in list(self._entries.items()):
            if entry.reply is not None and not entry.pinned:
                self._drop_memory(entry)
                if not entry.disk_nbytes:
                    self._evictions += 1
                self._forget_if_nowhere(key, entry)
                if self._memory_nbytes <= self._memory_budget_nbytes:
                    return

    def _drop_memory(self, entry: _Entry) -> int:
        reply, entry.reply = entry.reply, None
        if reply is None:
            return 0
        self._memory_nbytes -= reply.nbytes
        self._release(reply.segments)
        return reply.nbytes

    def _release(self, segments: Sequence[Segment]) -> None:
        if segments and self._on_release is not None:
            self._on_release(segments)

    def _forget_if_nowhere(self, key: str, entry: _Entry) -> None:
        if entry.reply is None and not entry.disk_nbytes and not entry.is_being_written:
            self._entries.pop(key, None)

    def _count_hit(self, key: str, entry: _Entry) -> None:
        self._hits += 1
        entry.hits += 1
        self._entries.move_to_end(key)

    # -------------------------------------------------------------------------------------- disk

    def _path(self, key: str, pinned: bool) -> Path:
        assert self._directory is not None  # nobody asks for a path without a disk tier
        return self._directory / (key + (_PINNED_SUFFIX if pinned else _SUFFIX))

    def _may_write(self, reply: StoredReply) -> bool:
        return (
            self._directory is not None
            and not reply.segments
            and reply.nbytes <= self._disk_budget_nbytes * _LARGEST_SHARE
            and self._backlog_nbytes + reply.nbytes <= _MAX_BACKLOG_NBYTES
            and time.monotonic() >= self._disk_resumes_at_s
        )

    def _write_file(self, key: str, entry: _Entry, reply: StoredReply, description: str) -> None:
        """Runs in the writer thread."""
        nbytes = 0
        pinned = entry.pinned
        path = self._path(key, pinned)

        def write() -> None:
            nonlocal nbytes
            nbytes = write_reply(path, key, reply.header, reply.frames, description)

        if self._entries.get(key) is entry:
            self._try_disk(write)
        with self._lock:
            self._backlog_nbytes -= reply.nbytes
            entry.is_being_written = False
            if self._entries.get(key) is not entry:  # evicted in the meantime
                self._try_disk(lambda: path.unlink(missing_ok=True))
                return
            if nbytes:
                entry.disk_nbytes = nbytes
                self._disk_nbytes += nbytes
                if entry.pinned != pinned:
                    self._try_disk(lambda: path.rename(self._path(key, entry.pinned)))
                self._shrink_disk()
            self._forget_if_nowhere(key, entry)

    def _read_file(self, key: str) -> StoredReply | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.disk_nbytes:
                return None
            path = self._path(key, entry.pinned)
        try:
            header, frames, description = read_reply(path, key)
            os.utime(path)
        except (Damaged, OSError) as error:
            with self._lock:
                if entry.disk_nbytes and path != self._path(key, entry.pinned):
                    return self._read_file(key)  # pinned or unpinned, so renamed, just now
                log.warning("a cached answer is lost: %s", error)
                self._drop_file(key, entry)
                self._forget_if_nowhere(key, entry)
            return None
        entry.description = description
        return StoredReply(header=header, frames=frames)

    def _shrink_disk(self) -> None:
        if self._disk_nbytes <= self._disk_budget_nbytes:
            return
        for key, entry in list(self._entries.items()):
            if entry.disk_nbytes and not entry.pinned:
                self._drop_file(key, entry)
                self._evictions += 1
                self._forget_if_nowhere(key, entry)
                if self._disk_nbytes <= self._disk_budget_nbytes:
                    return

    def _drop_file(self, key: str, entry: _Entry) -> int:
        nbytes, entry.disk_nbytes = entry.disk_nbytes, 0
        if nbytes:
            self._disk_nbytes -= nbytes
            self._try_disk(lambda: self._path(key, entry.pinned).unlink(missing_ok=True))
        return nbytes

    def _try_disk(self, action: Callable[[], object]) -> None:
        """Do it; if the disk refuses, leave it alone for a while and say so once."""
        try:
            action()
        except OSError as error:
            if error.errno == errno.ENOENT:  # another daemon on the same directory was faster
                return
            self._disk_resumes_at_s = time.monotonic() + _DISK_PAUSE_S
            log.warning(
                "the result cache stops writing to %s for %.0f s: %s",
                self._directory,
                _DISK_PAUSE_S,
                error.strerror or error,
            )

    def _index_directory(self, directory: Path) -> None:
        found: list[tuple[float, str, int, bool]] = []
        now = time.time()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.scandir(directory) as listing:
                for item in listing:
                    key, dot, suffix = item.name.partition(".")
                    if item.name.startswith(TEMPORARY_PREFIX):
                        if now - item.stat().st_mtime > _STALE_TEMPORARY_S:
                            Path(item.path).unlink(missing_ok=True)
                    elif dot + suffix in (_SUFFIX, _PINNED_SUFFIX) and is_key(key):
                        stat = item.stat(follow_symlinks=False)
                        pinned = dot + suffix == _PINNED_SUFFIX
                        found.append((stat.st_mtime, key, stat.st_size, pinned))
        except OSError as error:
            log.warning("answers are cached in memory only: %s", error)
            self._directory = None
            self._disk_budget_nbytes = 0
            return
        for modified_at_s, key, nbytes, pinned in sorted(found):
            self._entries[key] = _Entry(
                disk_nbytes=nbytes, pinned=pinned, stored_at_s=modified_at_s
            )
            self._disk_nbytes += nbytes
        with self._lock:
            self._shrink_disk()

    def _description(self, key: str, entry: _Entry) -> str:
        if entry.description is None:
            try:
                entry.description = read_description(self._path(key, entry.pinned))
            except (Damaged, OSError):
                return ""
        return entry.description

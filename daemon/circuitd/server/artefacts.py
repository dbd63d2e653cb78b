"""Fetched models on disk, as one kind of cache: what is there, how large, how to be rid of it."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Final

from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.replies import CacheEntry, CacheKindStats

#: A file of this name in an artefact's directory exempts it from `clear`.
_PIN: Final = ".pinned"


class Artefacts:
    """The directories below `directory`, one per fetched model. All calls read the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._evictions = 0

    def stats(self) -> CacheKindStats:
        """How many, and how large."""
        sizes = [_nbytes(path) for path in self._paths()]
        return CacheKindStats(
            kind="artefacts",
            entries=len(sizes),
            nbytes=0,
            budget_nbytes=0,
            disk_nbytes=sum(sizes),
            evictions=self._evictions,
        )

    def entries(self, limit: int) -> list[CacheEntry]:
        """The most recently changed first."""
        now = time.time()
        newest = sorted(self._paths(), key=lambda path: -path.stat().st_mtime)[:limit]
        return [
            CacheEntry(
                key=path.name,
                nbytes=_nbytes(path),
                description=", ".join(sorted(_files(path)))[:200],
                pinned=(path / _PIN).exists(),
                age_s=max(0.0, now - path.stat().st_mtime),
            )
            for path in newest
        ]

    def pin(self, key: str, pinned: bool) -> bool:
        """Exempt one from `clear`, or undo that; whether that changed anything. Raises NotFound."""
        marker = self._find(key) / _PIN
        changed = marker.exists() != pinned
        if pinned:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)
        return changed

    def evict(self, key: str, in_use: frozenset[str]) -> tuple[int, int]:
        """Delete one; entries and bytes freed. `in_use` are directories of resident models."""
        path = self._find(key)
        if str(path.resolve()) in in_use:
            raise InvalidRequest(
                "this artefact belongs to a resident model", asked=key, hint="Unload it first"
            )
        return self._delete([path])

    def clear(self, in_use: frozenset[str]) -> tuple[int, int]:
        """Delete all that are neither pinned nor in use; entries and bytes freed."""
        return self._delete(
            [
                path
                for path in self._paths()
                if not (path / _PIN).exists() and str(path.resolve()) not in in_use
            ]
        )

    def _paths(self) -> list[Path]:
        if not self._directory.is_dir():
            return []
        return [path for path in self._directory.iterdir() if path.is_dir()]

    def _find(self, key: str) -> Path:
        for path in self._paths():
            if path.name == key:
                return path
        raise NotFound.unknown("artefact", key, [path.name for path in self._paths()])

    def _delete(self, paths: list[Path]) -> tuple[int, int]:
        with self._lock:
            freed = sum(_nbytes(path) for path in paths)
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)
            self._evictions += len(paths)
        return len(paths), freed


def _files(path: Path) -> list[str]:
    return [file.name for file in path.iterdir() if not file.name.startswith(".")]


def _nbytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())

"""Segments: big tensors as files that one process writes and another serves without a copy.

A daemon has one private directory of them, on tmpfs where that has room. A worker creates a file of
the tensor's size, maps it and writes; the front maps the same file read-only and sends from the
mapping. A name is random, so a handle says nothing and cannot be guessed, and it is checked against
one pattern before it meets the file system. Deleting a file that is still mapped is safe: its bytes
go when the last mapping does.

The directory belongs to the daemon that holds the lock in it; `sweep` removes those nobody holds.
"""

import errno
import mmap
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from circuit_protocol.errors import InvalidRequest, NotFound, StorageFull
from circuit_protocol.tensors import MAX_NDIM, NUMPY_DTYPES, DType
from circuitd.store.locks import LockHeld, OwnerLock
from circuitd.work import Segment

_HANDLE = re.compile(r"t-[0-9a-f]{32}")
_LOCK: Final = "owner.lock"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: A directory without a lock file this old was left between its two first system calls.
_UNBORN_S: Final = 60.0


class SegmentDir:
    """The segment files in `path`, which must exist and be private (`make_directory`).

    Safe to use from several threads and processes: the files are the only state. With a budget,
    `create` refuses to let the files' sizes exceed it.
    """

    def __init__(self, path: Path, *, budget_nbytes: int | None = None) -> None:
        self.path = path
        self.budget_nbytes = budget_nbytes

    def create(
        self, dtype: DType, shape: Sequence[int], *, description: str = ""
    ) -> tuple[Segment, np.ndarray]:
        """A new tensor: its segment, and its bytes as a writable array of `shape` (zeros).

        The room is reserved before the array is handed out, so a full disk is StorageFull here and
        not a SIGBUS at some later write; nothing is left behind then.
        """
        shape = tuple(int(n) for n in shape)
        if len(shape) > MAX_NDIM or any(n < 0 for n in shape):
            raise InvalidRequest("a tensor cannot have this shape", asked=str(shape))
        numpy_dtype = NUMPY_DTYPES[dtype]
        nbytes = prod(shape) * numpy_dtype.itemsize
        self._check_budget(nbytes)
        handle = f"t-{secrets.token_hex(16)}"
        file = self.path / handle
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if nbytes:
                os.posix_fallocate(fd, 0, nbytes)
                buffer: mmap.mmap | bytearray = mmap.mmap(fd, nbytes)
            else:
                buffer = bytearray()  # nothing can be mapped
        except BaseException as error:
            file.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in _NO_ROOM | {errno.ENOMEM}:
                raise self._full(nbytes, error.strerror or "no room") from error
            raise
        finally:
            os.close(fd)
        segment = Segment(
            handle=handle,
            file=handle,
            dtype=dtype,
            shape=shape,
            nbytes=nbytes,
            description=description,
        )
        return segment, np.frombuffer(buffer, dtype=numpy_dtype).reshape(shape)

    def open(self, segment: Segment) -> memoryview:
        """The tensor's bytes, mapped read-only. Slices of the view keep the mapping alive.

        Raises NotFound if the segment is gone, or is not what it was said to be.
        """
        try:
            fd = os.open(self._file(segment), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _gone(segment.handle) from error
        try:
            if os.fstat(fd).st_size != segment.nbytes:
                raise _gone(segment.handle)
            if not segment.nbytes:
                return memoryview(b"")
            return memoryview(mmap.mmap(fd, segment.nbytes, access=mmap.ACCESS_READ))
        finally:
            os.close(fd)

    def locate(self, segment: Segment) -> Path:
        """The tensor's file, for a reader on this machine. Raises NotFound if it is gone."""
        file = self._file(segment)
        if not file.is_file():
            raise _gone(segment.handle)
        return file.absolute()

    def read(self, segment: Segment) -> np.ndarray:
        """The tensor as a read-only array over its mapping. Raises NotFound."""
        flat = np.frombuffer(self.open(segment), dtype=NUMPY_DTYPES[segment.dtype])
        return flat.reshape(segment.shape)

    def delete(self, segment: Segment) -> bool:
        """Remove a tensor; whether it was there. Who has it mapped keeps it."""
        try:
            self._file(segment).unlink()
        except FileNotFoundError:
            return False
        return True

    def total_nbytes(self) -> int:
        """Size of all segments in the directory."""
        with os.scandir(self.path) as entries:
            return sum(_size(entry) for entry in entries if _HANDLE.fullmatch(entry.name))

    def _check_budget(self, nbytes: int) -> None:
        if self.budget_nbytes is None:
            return
        held = self.total_nbytes()
        if held + nbytes > self.budget_nbytes:
            raise self._full(nbytes, f"{held} of {self.budget_nbytes} budgeted bytes are held")

    def _file(self, segment: Segment) -> Path:
        if not _HANDLE.fullmatch(segment.file):
            raise NotFound("this is no handle of a held tensor", asked=segment.file[:80])
        return self.path / segment.file

    def _full(self, nbytes: int, found: str) -> StorageFull:
        return StorageFull(
            "there is no room to hold this tensor",
            asked=f"{nbytes} bytes",
            found=found,
            hint="Release handles, record fewer sites or positions, or raise segment_budget_nbytes",
        )


class OwnedSegmentDir(SegmentDir):
    """A segment directory of this process: made private and locked here, removed by `close`."""

    def __init__(self, path: Path, *, budget_nbytes: int | None = None) -> None:
        path.mkdir(mode=0o700)
        path.chmod(0o700)  # whatever the umask took
        super().__init__(path, budget_nbytes=budget_nbytes)
        self._lock = OwnerLock(path / _LOCK)

    def close(self) -> None:
        """Remove the directory and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def roots() -> tuple[Path, ...]:
    """Where segment directories may lie, best first."""
    shm, tmp = Path("/dev/shm"), Path(tempfile.gettempdir())
    return (shm, tmp) if os.access(shm, os.W_OK) else (tmp,)


def choose_root(needs_nbytes: int) -> Path:
    """The first root with `needs_nbytes` free, else the one with most room."""
    candidates = roots()
    for root in candidates:
        if shutil.disk_usage(root).free >= needs_nbytes:
            return root
    return max(candidates, key=lambda root: shutil.disk_usage(root).free)


def directory_name(instance: str) -> str:
    """The name of an instance's segment directory inside a root."""
    return f"circuitd-{os.getuid()}-{re.sub(r'[^0-9A-Za-z]', '', instance)[:32]}"


def abandoned(where: Iterable[Path] | None = None) -> list[Path]:
    """This user's segment directories that no living process holds."""
    prefix = f"circuitd-{os.getuid()}-"
    return [
        path
        for root in (roots() if where is None else where)
        for path in sorted(root.glob(f"{prefix}*"))
        if not path.is_symlink()
        and path.is_dir()
        and path.stat().st_uid == os.getuid()
        and _is_abandoned(path)
    ]


def sweep(where: Iterable[Path] | None = None) -> list[Path]:
    """Remove the abandoned segment directories; which these were."""
    removed = abandoned(where)
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def _is_abandoned(path: Path) -> bool:
    lock = path / _LOCK
    try:
        if not lock.exists():
            return time.time() - path.stat().st_mtime > _UNBORN_S
        with OwnerLock(lock):
            return True
    except (LockHeld, FileNotFoundError):
        return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # deleted between listing and looking
        return 0


def _gone(handle: str) -> NotFound:
    return NotFound(
        "this tensor is no longer held",
        asked=handle,
        hint="Handles end with their connection, when released, and when the daemon restarts",
    )

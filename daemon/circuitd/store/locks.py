"""A lock that says who is alive: held on a file for a process's life, returned by the kernel.

Unlike a written process id it can never be stale: it survives neither kill -9 nor a power cut, and
a recycled id or another container's id space cannot fool it. The id in the file is for people.
"""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class LockHeld(Exception):
    """Somebody else holds the lock; `pid` is who wrote themselves into it, if that can be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(f"{path} is held by process {pid if pid is not None else '(unknown)'}")
        self.path = path
        self.pid = pid


class OwnerLock:
    """An exclusive lock on a file, taken within `patience_s` or not at all (`LockHeld`)."""

    def __init__(self, path: Path, *, patience_s: float = 0.0) -> None:
        self.path = path
        # Never truncated on open: the holder's id stays readable for those who come too late.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _lock(self._fd, patience_s)
        except BlockingIOError:
            pid = _read_pid(self._fd)
            os.close(self._fd)
            raise LockHeld(path, pid) from None
        except BaseException:
            os.close(self._fd)
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two holders lock two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def holder(path: Path) -> int | None:
    """The process that holds the lock on `path`: its id, 0 if that is unreadable, None if nobody.

    Looking takes a shared lock for an instant: who wants the lock meanwhile needs patience.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(fd) or 0
    finally:
        os.close(fd)
    return None


def _lock(fd: int, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(0.01)
        else:
            return


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None

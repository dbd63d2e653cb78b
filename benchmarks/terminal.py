"""A terminal for the benchmarks: a program on a pty, what it writes counted and timed."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

#: The question whether updates may be painted at once, and a terminal's answer that they may.
_ASKS_FOR_SYNC = b"\x1b[?2026$p"
_CAN_SYNC = b"\x1b[?2026;2$y"
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Written:
    """What came after something was done: how much, and when the last of it."""

    n_bytes: int
    #: Seconds until its first and its last byte; 0 where nothing came.
    first_s: float
    last_s: float


class Terminal:
    """A program that believes to be in a terminal of truecolor."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        columns: int = 110,
        rows: int = 30,
    ) -> None:
        colors = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        # Made before the fork: what is measured begins with the command.
        variables = {k: v for k, v in environment.items() if k not in ("NO_COLOR", "TMUX")}
        variables |= colors
        size = struct.pack("HHHH", rows, columns, 0, 0)
        self._start_s = time.perf_counter()
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # the child: nothing but becoming the program
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, size)
                os.execvpe(command[0], list(command), variables)
            finally:
                os._exit(127)
        self._seen = bytearray()

    @property
    def n_bytes(self) -> int:
        """All that was read so far."""
        return len(self._seen)

    def until(self, text: str) -> float:
        """Read until `text` was written; seconds since the start. Raises RuntimeError."""
        wanted = text.encode()
        while wanted not in self._seen:
            if not self._read(_TIMEOUT_S):
                raise RuntimeError(f"the program did not write `{text}` in {_TIMEOUT_S:g} s")
        return time.perf_counter() - self._start_s

    def first_byte(self) -> float:
        """Read until anything was written; seconds since the start."""
        return self.until("\x1b")

    def after_until(self, keys: str, pattern: str) -> tuple[float, float]:
        """Press `keys` and read until something like `pattern` came of it; seconds to the first
        byte, and to that. Raises RuntimeError.
        """
        begin, wanted, first_s = len(self._seen), re.compile(pattern.encode()), 0.0
        start_s = time.perf_counter()
        self.press(keys)
        while not wanted.search(self._seen, begin):
            if not self._read(_TIMEOUT_S):
                raise RuntimeError(f"{keys!r} made the program write nothing like `{pattern}`")
            first_s = first_s or time.perf_counter() - start_s
        return first_s, time.perf_counter() - start_s

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    def quiet(self, silence_s: float) -> Written:
        """What is written from now on until nothing came for `silence_s`."""
        start_s = time.perf_counter()
        n_bytes, first_s, last_s = 0, 0.0, 0.0
        while n := self._read(silence_s):
            last_s = time.perf_counter() - start_s
            first_s = first_s or last_s
            n_bytes += n
        return Written(n_bytes, first_s, last_s)

    def after(self, keys: str, silence_s: float) -> Written:
        """What pressing `keys` makes the program write, until it is silent again."""
        self.press(keys)
        return self.quiet(silence_s)

    def _read(self, timeout_s: float) -> int:
        """Read what is there within `timeout_s`; how many bytes."""
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return 0
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError as e:  # Linux says so when the program has ended
            raise RuntimeError("the program ended") from e
        if _ASKS_FOR_SYNC in data:
            os.write(self._fd, _CAN_SYNC)
        self._seen += data
        return len(data)

    def close(self) -> None:
        """End the program."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

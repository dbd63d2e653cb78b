"""The daemon's log: one line per event, on the terminal and in a file that rotates by size.

    2026-11-22T16:40:44.123Z INFO    server.serve      ready: ipc:///run/user/1000/…

time (UTC), level, component (the module under circuitd), message. A traceback follows indented, so
that a line that starts with a digit starts an event. Workers log the same lines to their standard
error, and the front takes them over (`relay`).
Messages name models, sizes and ids, never key material or the text of prompts.
"""

import logging
import logging.handlers
import os
import re
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Final

#: How a line begins that `LineFormatter` made.
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class LineFormatter(logging.Formatter):
    """One event as one line, its traceback indented below."""

    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(component)-17s %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )

    def format(self, record: logging.LogRecord) -> str:
        """See the module."""
        if getattr(record, "is_whole_line", False):
            return record.getMessage()
        record.component = record.name.removeprefix("circuitd.")
        first, *rest = super().format(record).splitlines() or [""]
        return "\n".join([first, *(f"    {line}" for line in rest)])


def log_to_file(path: Path, level: str, *, max_nbytes: int, files: int) -> None:
    """Send the log of this process to `path` (0600), rotated so that at most `files` exist."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _add(_PrivateRotatingFile(path, max_nbytes, files), level)


def log_to_stderr(level: str) -> None:
    """Send the log of this process to standard error."""
    _add(logging.StreamHandler(sys.stderr), level)


def relay(line: str, source: str) -> None:
    """Take a line of another process of this daemon into the log of this one.

    What that process logged stands as it is; what it only printed (a crash of the interpreter, a
    library's complaint) becomes a warning of `source`.
    """
    logged = line.startswith("    ") or _STAMP.match(line) is not None
    level = logging.INFO if logged else logging.WARNING
    record = logging.LogRecord(source, level, "", 0, "%s", (line,), None)
    record.is_whole_line = logged
    # Past the level of the logger: the other process has applied it already.
    logging.getLogger().handle(record)


def _add(handler: logging.Handler, level: str) -> None:
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.setLevel(LEVELS[level])
    root.addHandler(handler)
    logging.captureWarnings(True)


class _PrivateRotatingFile(logging.handlers.RotatingFileHandler):
    """A rotating log nobody else can read. A full disk loses lines, never the daemon."""

    def __init__(self, path: Path, max_nbytes: int, files: int) -> None:
        # With no backup, RotatingFileHandler would never rotate at all.
        super().__init__(path, "a", max_nbytes, max(1, files - 1), "utf-8", delay=True)

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(
            self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=private
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop the line: printing a traceback per line to stderr would not make room."""

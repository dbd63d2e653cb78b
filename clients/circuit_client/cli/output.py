"""Where a command's words go: data to stdout, as text or JSON; narration and progress to stderr."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TextIO

import msgspec

from circuit_client.as_json import encode
from circuit_client.render.progress import progress_line
from circuit_client.render.style import (
    Depth,
    Line,
    Theme,
    detect_depth,
    detect_theme,
    paint,
    plain,
)
from circuit_protocol.replies import Progress


@dataclass
class Output:
    """The two streams of a command and what may be written to them."""

    stdout: TextIO
    stderr: TextIO
    json: bool
    depth: Depth
    theme: Theme
    columns: int
    ascii_only: bool
    shows_progress: bool
    _progress_columns: int = field(default=0, init=False)

    @classmethod
    def for_terminal(
        cls,
        stdout: TextIO,
        stderr: TextIO,
        environment: Mapping[str, str],
        *,
        json: bool,
        color: Any,
        ascii_only: bool,
    ) -> Self:
        """As these streams and this environment allow."""
        encoding = (getattr(stdout, "encoding", None) or "utf-8").lower()
        return cls(
            stdout=stdout,
            stderr=stderr,
            json=json,
            depth=detect_depth(environment, is_terminal=stdout.isatty(), choice=color),
            theme=detect_theme(environment),
            columns=shutil.get_terminal_size((100, 24)).columns,
            ascii_only=ascii_only or "utf" not in encoding,
            shows_progress=stderr.isatty() and environment.get("TERM") != "dumb",
        )

    # --------------------------------------------------------------------------------- data

    def show(self, lines: Iterable[Line]) -> None:
        """Lines for a person, on stdout."""
        self.clear_progress()
        text = paint(lines, self.depth)
        if self.ascii_only:
            text = text.encode("ascii", "backslashreplace").decode()
        self.stdout.write(text)
        self.stdout.flush()

    def document(self, data: Any) -> None:
        """The one JSON document of a command; indented for a person at a terminal."""
        self.clear_progress()
        encoded = encode(data)
        if self.stdout.isatty():
            encoded = msgspec.json.format(encoded, indent=2)
        self.stdout.write(encoded.decode() + "\n")
        self.stdout.flush()

    def line(self, data: Any) -> None:
        """One JSON line of a stream."""
        self.clear_progress()
        self.stdout.write(encode(data).decode() + "\n")
        self.stdout.flush()

    def give(self, data: Any, lines: Callable[[], Iterable[Line]]) -> None:
        """`data` as JSON, or else the lines that say the same to a person."""
        if self.json:
            self.document(data)
        else:
            self.show(lines())

    # ---------------------------------------------------------------------------- narration

    def note(self, text: str) -> None:
        """A sentence about what happens, on stderr."""
        self.clear_progress()
        self.stderr.write(f"circuit: {text}\n")
        self.stderr.flush()

    def progress(self, progress: Progress) -> None:
        """Draw progress over the last one, on a terminal only."""
        if not self.shows_progress:
            return
        line = progress_line(progress, self.columns - 1, ascii_only=self.ascii_only)
        self.stderr.write(f"\r{line}\x1b[K")
        self.stderr.flush()
        self._progress_columns = len(line)

    def clear_progress(self) -> None:
        """Take the progress line away before anything else is written."""
        if self._progress_columns:
            self.stderr.write("\r\x1b[K")
            self.stderr.flush()
            self._progress_columns = 0


def sentence(text: str) -> list[Line]:
    """One line of plain text."""
    return [plain(text)]

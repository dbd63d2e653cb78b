"""Taking away what is on screen: to the clipboard through any terminal, or into a file."""

import base64
import os
from pathlib import Path
from typing import Final

from circuit_protocol.errors import StorageFull

#: Most terminals refuse more in one OSC 52; xterm's limit is the smallest in use.
CLIPBOARD_NBYTES_MAX: Final = 74_000


def osc52(text: str, environment: dict[str, str] | os._Environ[str]) -> str | None:
    """The escape sequence that puts `text` on the clipboard of the terminal, however far away.

    Inside tmux and screen it is wrapped, so that it reaches the outer terminal. None if the text is
    larger than terminals take.
    """
    data = text.encode()
    if len(data) > CLIPBOARD_NBYTES_MAX:
        return None
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"
    if environment.get("TMUX"):
        escaped = sequence.replace("\x1b", "\x1b\x1b")
        return f"{sequence}\x1bPtmux;{escaped}\x1b\\"
    if environment.get("TERM", "").startswith("screen"):
        return f"\x1bP{sequence}\x1b\\"
    return sequence


def fallback_file() -> Path:
    """Where a copy goes as well, for terminals that ignore OSC 52."""
    root = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(root) / f"circuit-copied-{os.getuid()}.txt"


def keep_copy(text: str) -> Path | None:
    """Write the copy where it can be picked up; None if it cannot be written."""
    path = fallback_file()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return None
    return path


def write_export(path: Path, text: str) -> Path:
    """Write an export; StorageFull says what is in the way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as e:
        raise StorageFull(
            "the file cannot be written", asked=str(path), found=e.strerror,
            hint="Give another path",
        ) from None  # fmt: skip
    return path.absolute()


def default_name(place: str, parts: tuple[str | None, ...]) -> str:
    """A file name for an export: `circuit-single_double_quote-34.svg`."""
    words = [place, *(p for p in parts if p)]
    clean = "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in w) for w in words)
    return f"{clean.strip('-')}.svg"

"""Circuits that were opened lately, newest first, remembered in the user's state directory."""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

_KEPT: Final = 20


def recent_file() -> Path:
    """Where they are remembered."""
    root = os.environ.get("CIRCUITD_STATE_DIR")
    if root:
        return Path(root) / "tui-recent.json"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "circuitd" / "tui-recent.json"


def read_recent() -> tuple[str, ...]:
    """Ids of the circuits; none if the file is missing or damaged."""
    try:
        return msgspec.json.decode(recent_file().read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def remember(circuit: str) -> tuple[str, ...]:
    """Put a circuit first. A directory that cannot be written to costs only the memory."""
    kept = (circuit, *(c for c in read_recent() if c != circuit))[:_KEPT]
    file = recent_file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(kept))
        draft.replace(file)
    return kept

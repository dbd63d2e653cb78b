"""The discovery file: how a client finds the daemon that runs for this user on this machine.

`circuitd.json` in the runtime directory, mode 0600, replaced atomically. A file whose process has
gone counts as no file: the pid is compared together with its start time, since pids come again.
"""

import contextlib
import os
import stat
from pathlib import Path

import msgspec

from circuit_protocol.endpoints import (
    DISCOVERY_NAME,
    check_private_dir,
    ensure_private_dir,
    runtime_dir,
)
from circuit_protocol.errors import Forbidden


class Discovery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a daemon says about itself in its discovery file.

    `endpoint` is the local one, `endpoints` are all; `pid_start_ticks` is the start time of the
    process where the system tells it (Linux: clock ticks since boot).
    """

    endpoint: str
    pid: int
    instance: str
    version: str
    started_at_s: float
    endpoints: tuple[str, ...] = ()
    server_public_key: str | None = None
    pid_start_ticks: int | None = None

    def is_alive(self) -> bool:
        """Whether the process that wrote this still runs, as this user's."""
        if self.pid <= 0:  # kill() would take it for a group of processes
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, PermissionError, OverflowError):
            return False
        return self.pid_start_ticks is None or process_start_ticks(self.pid) == self.pid_start_ticks


_decoder = msgspec.json.Decoder(Discovery)


def process_start_ticks(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None where /proc does not say, and
    for a process that has ended but that its parent has not waited for yet.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Fields from 3 on; the name in field 2 stands in parentheses and may hold anything, also ")".
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def write_discovery(discovery: Discovery, directory: Path | None = None) -> Path:
    """Replace the discovery file. Readers see the old one or the new one, never a part."""
    import tempfile  # of no use to clients, and slow to import

    directory = ensure_private_dir(directory or runtime_dir())
    path = directory / DISCOVERY_NAME
    # mkstemp opens with O_EXCL and mode 0600: the content is never readable to others.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{DISCOVERY_NAME}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(discovery), indent=2) + b"\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_discovery(directory: Path | None = None) -> Discovery | None:
    """The running daemon, or None: no file, a damaged one, or one whose process has gone.

    Raises Forbidden for a file or directory another user could have written.
    """
    discovery = _read(directory or runtime_dir())
    return discovery if discovery is not None and discovery.is_alive() else None


def remove_discovery(instance: str, directory: Path | None = None) -> None:
    """Remove the discovery file if it is still that of `instance`, not of a successor."""
    directory = directory or runtime_dir()
    discovery = _read(directory)
    if discovery is not None and discovery.instance == instance:
        (directory / DISCOVERY_NAME).unlink(missing_ok=True)


def _read(directory: Path) -> Discovery | None:
    try:
        check_private_dir(directory)
        descriptor = os.open(directory / DISCOVERY_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _unsafe(directory, e.strerror or "not readable") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            mode = stat.S_IMODE(found.st_mode)
            raise _unsafe(directory, f"it belongs to user {found.st_uid}, mode {mode:04o}")
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _decoder.decode(file.read())
    return None


def _unsafe(directory: Path, found: str) -> Forbidden:
    return Forbidden(
        "the discovery file cannot be trusted",
        asked=str(directory / DISCOVERY_NAME),
        found=found,
        hint="Remove it and start the daemon again",
    )

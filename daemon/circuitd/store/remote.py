"""Models from elsewhere: `https://`, `hf://` and any other fsspec address, fetched once.

Files come in ranges into a `.part` file, so that an interrupted download goes on where it stopped;
its SHA-256 is recorded beside it and verified when the caller knows it. What is fetched is only
ever stored; reading it is `circuitd.store.checkpoint`'s business. Needs the extra `remote`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from circuit_protocol.errors import (
    CheckpointError,
    InvalidRequest,
    NotFound,
    StorageFull,
    TooLarge,
    Unavailable,
)
from circuitd.store.model_files import CONFIG_FILE, WEIGHT_FILES

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CHUNK_NBYTES: Final = 8 << 20
MAX_FILE_NBYTES: Final = 64 << 30

#: (bytes so far, bytes in all or None) after each chunk.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch. `offline` of None asks `CIRCUITD_OFFLINE` (1 means offline)."""

    offline: bool | None = None
    attempts: int = 4
    retry_wait_s: float = 0.5
    lock_timeout_s: float = 600.0
    chunk_nbytes: int = _CHUNK_NBYTES
    max_nbytes: int = MAX_FILE_NBYTES

    @property
    def is_offline(self) -> bool:
        """Whether nothing may be fetched."""
        if self.offline is not None:
            return self.offline
        return os.environ.get("CIRCUITD_OFFLINE", "0") not in ("", "0")


def is_address(name: str) -> bool:
    """Whether a model is named by an address (`scheme://…`) and not by a name or path."""
    return _ADDRESS.match(name) is not None


def fetch_model(
    address: str,
    cache_dir: Path,
    *,
    sha256: str | None = None,
    options: FetchOptions = FetchOptions(),
    progress: Progress | None = None,
) -> Path:
    """The local directory of the model directory at `address`, fetched if it is not there yet.

    `sha256` is that of the weights file. Raises as `fetch_file`; `NotFound` when the address has no
    configuration or no weights.
    """
    base = address.rstrip("/")
    fetch_file(f"{base}/{CONFIG_FILE}", cache_dir, options=options)
    for name in WEIGHT_FILES:
        try:
            path = fetch_file(
                f"{base}/{name}", cache_dir, sha256=sha256, options=options, progress=progress
            )
        except NotFound:
            continue
        return path.parent
    raise NotFound(
        "no weights at this address",
        asked=_shown(base),
        found=f"{CONFIG_FILE}, but neither {' nor '.join(WEIGHT_FILES)}",
    )


def fetch_file(
    address: str,
    cache_dir: Path,
    *,
    sha256: str | None = None,
    options: FetchOptions = FetchOptions(),
    progress: Progress | None = None,
) -> Path:
    """The local copy of the file at `address`; files of one remote directory share a local one.

    Raises `InvalidRequest` (no address we can read, extra missing), `NotFound` (no such file, or
    not cached and offline), `CheckpointError` (another checksum than `sha256`), `Unavailable` (the
    network failed `options.attempts` times; what came is kept), `TooLarge`, `StorageFull`.
    """
    if not is_address(address) or "::" in address:
        raise InvalidRequest(
            "not an address of one file", asked=_shown(address), hint="scheme://host/path"
        )
    parent, _, name = address.rpartition("/")
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise InvalidRequest("the address ends in no file name", asked=_shown(address))
    directory = cache_dir / "remote" / hashlib.sha256(parent.encode()).hexdigest()[:24]
    target = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{name}.lock", timeout=options.lock_timeout_s):
            if not target.exists():
                if options.is_offline:
                    raise NotFound(
                        "this file is not in the cache and the daemon is offline",
                        asked=_shown(address),
                        hint="unset CIRCUITD_OFFLINE, or fetch it where there is a network",
                    )
                _download(address, target, sha256, options, progress)
            _verify(target, sha256, address)
    except Timeout as error:
        raise Unavailable(
            "another process has been fetching this file for too long", asked=_shown(address)
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no room for the file", asked=_shown(address)) from error
        raise
    return target


def _download(
    address: str, target: Path, sha256: str | None, options: FetchOptions, progress: Progress | None
) -> None:
    part = target.with_name(f".{target.name}.part")
    for attempt in range(options.attempts):
        try:
            _continue_download(address, part, options, progress)
            break
        except FileNotFoundError as error:
            raise NotFound("no such file at this address", asked=_shown(address)) from error
        except _network_errors() as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            if attempt + 1 == options.attempts:
                raise Unavailable(
                    "fetching failed; what came so far is kept and the next try goes on from there",
                    asked=_shown(address),
                    found=f"{type(error).__name__} after {_size(part)} bytes",
                ) from error
            time.sleep(options.retry_wait_s * 2**attempt)
    found = _digest(part)
    if sha256 is not None and found != sha256.lower():
        part.unlink()
        raise _wrong_checksum(address, sha256, found)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    # The record first: a file without one would be hashed again, a record without one is ignored.
    _write_record(target, found, part.stat())
    part.replace(target)
    _source_path(part).unlink(missing_ok=True)


def _continue_download(
    address: str, part: Path, options: FetchOptions, progress: Progress | None
) -> None:
    file_system, path = _open_file_system(address)
    # A listing from an earlier attempt must not hide that the file changed.
    file_system.invalidate_cache()
    info = file_system.info(path)
    size = info.get("size")
    if size is not None and size > options.max_nbytes:
        raise TooLarge("the file is too large", asked=_shown(address), found=f"{size} bytes")
    identity = json.dumps(
        [address, size, *(str(info.get(key)) for key in ("ETag", "etag", "mtime", "created"))]
    )
    source = _source_path(part)
    if _size(part) and (not source.exists() or source.read_text() != identity):
        part.unlink()  # the beginning of another version
    source.write_text(identity)
    with part.open("ab") as file:
        while size is None or file.tell() < size:
            start = file.tell()
            if size is None:
                data, end = file_system.cat_file(path), None
            else:
                end = min(size, start + options.chunk_nbytes)
                data = file_system.cat_file(path, start=start, end=end)
                if len(data) == size and end - start != size:
                    data = data[start:end]  # a server without ranges sends everything each time
                if len(data) != end - start:
                    raise ConnectionError(f"{len(data)} of {end - start} bytes came")
            if start + len(data) > options.max_nbytes:
                raise TooLarge("the file is too large", asked=_shown(address))
            if end is None:
                file.truncate(0)
            file.write(data)
            file.flush()
            if progress is not None:
                progress(file.tell(), size)
            if end is None:
                return


def _open_file_system(address: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InvalidRequest(
            "addresses need an extra that is not installed",
            asked=_shown(address),
            hint='pip install "circuitd[remote]"',
        ) from error
    try:
        return url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise InvalidRequest(
            "no file system for this address", asked=_shown(address), found=str(error)[:200]
        ) from error


def _network_errors() -> tuple[type[Exception], ...]:
    """What fsspec's transports raise when the line fails; aiohttp's are not all OSErrors."""
    try:
        from aiohttp import ClientError
    except ImportError:
        return (OSError, TimeoutError)
    return (OSError, TimeoutError, ClientError)


def _verify(target: Path, sha256: str | None, address: str) -> None:
    """Compare with the caller's checksum; hash again only if the file is not the recorded one."""
    if sha256 is None:
        return
    record = _read_record(target)
    stat = target.stat()
    if record is None or record.get("state") != [stat.st_size, stat.st_mtime_ns]:
        record = _write_record(target, _digest(target), stat)
    if record["sha256"] != sha256.lower():
        raise _wrong_checksum(address, sha256, record["sha256"])


def _wrong_checksum(address: str, asked: str, found: str) -> CheckpointError:
    return CheckpointError(
        "the file at this address has another checksum",
        asked=f"{_shown(address)} with sha256 {asked}",
        found=f"sha256 {found}",
        hint="it changed, or this is not the file that was meant",
    )


def _record_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.sha256.json")


def _source_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.source")


def _write_record(target: Path, digest: str, stat: os.stat_result) -> dict[str, Any]:
    record = {"sha256": digest, "state": [stat.st_size, stat.st_mtime_ns]}
    _record_path(target).write_text(json.dumps(record))
    return record


def _read_record(target: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(_record_path(target).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("sha256"), str) else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _shown(address: str) -> str:
    """The address without user, password and query, which may be secrets."""
    return re.sub(r"//[^/@]*@", "//", address).partition("?")[0]

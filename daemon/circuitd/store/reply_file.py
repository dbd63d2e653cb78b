"""One cached answer as one file: written whole or not at all, checked whole before it is believed.

Layout: magic, blake2b-256 of the rest, length of the summary (u32 little-endian), summary (msgpack
`Summary`), the reply's header, its frames. A file is written under a temporary name and renamed, so
that a kill leaves at most a temporary file; there is no fsync, because after a power cut the
checksum turns a torn file into a miss, which costs one recomputation.
"""

import os
import re
import secrets
import struct
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

_MAGIC: Final = b"circuitd reply 1"
_DIGEST_NBYTES: Final = 32
_LENGTH: Final = struct.Struct("<I")
_PREFIX_NBYTES: Final = len(_MAGIC) + _DIGEST_NBYTES + _LENGTH.size
_KEY: Final = re.compile(r"[0-9a-f]{16,128}")
TEMPORARY_PREFIX: Final = ".writing-"

Buffer = bytes | bytearray | memoryview


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says about itself before its bytes."""

    key: str
    description: str
    header_nbytes: int
    frame_nbytes: tuple[int, ...]


class Damaged(Exception):
    """A file that is not what was once written."""


_summary_decoder: Final = msgspec.msgpack.Decoder(Summary)


def is_key(text: str) -> bool:
    """Whether `text` can be a cache key: 16 to 128 lower-case hexadecimal digits."""
    return _KEY.fullmatch(text) is not None


def write_reply(
    path: Path, key: str, header: Buffer, frames: Sequence[Buffer], description: str = ""
) -> int:
    """Write one answer to `path`; the file's size in bytes. Raises OSError, leaving nothing."""
    summary = msgspec.msgpack.encode(
        Summary(
            key=key,
            description=description,
            header_nbytes=len(header),
            frame_nbytes=tuple(memoryview(frame).nbytes for frame in frames),
        )
    )
    parts: list[Buffer] = [_LENGTH.pack(len(summary)), summary, header, *frames]
    digest = blake2b(digest_size=_DIGEST_NBYTES)
    for part in parts:
        digest.update(part)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            for part in (_MAGIC, digest.digest(), *parts):
                file.write(part)
            nbytes = file.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return nbytes


def read_reply(path: Path, key: str) -> tuple[bytes, tuple[memoryview, ...], str]:
    """Header, frames and description of the answer in `path`. Raises Damaged or OSError."""
    data = memoryview(path.read_bytes())
    if len(data) < _PREFIX_NBYTES or data[: len(_MAGIC)] != _MAGIC:
        raise Damaged(f"{path} does not begin like a cached reply")
    body = data[len(_MAGIC) + _DIGEST_NBYTES :]
    if blake2b(body, digest_size=_DIGEST_NBYTES).digest() != data[len(_MAGIC) :][:_DIGEST_NBYTES]:
        raise Damaged(f"{path} fails its checksum")
    (length,) = _LENGTH.unpack_from(body)
    summary = _decode(body[_LENGTH.size :][:length], path)
    if summary.key != key:
        raise Damaged(f"{path} holds the answer to another question")
    at = _LENGTH.size + length
    header = bytes(body[at : at + summary.header_nbytes])
    at += summary.header_nbytes
    frames: list[memoryview] = []
    for nbytes in summary.frame_nbytes:
        frames.append(body[at : at + nbytes])
        at += nbytes
    if at != len(body):
        raise Damaged(f"{path} has another length than it says")
    return header, tuple(frames), summary.description


def read_description(path: Path) -> str:
    """The description alone; the answer is neither read nor checked. Raises Damaged or OSError."""
    with path.open("rb") as file:
        prefix = file.read(_PREFIX_NBYTES)
        if len(prefix) < _PREFIX_NBYTES or not prefix.startswith(_MAGIC):
            raise Damaged(f"{path} does not begin like a cached reply")
        (length,) = _LENGTH.unpack_from(prefix, _PREFIX_NBYTES - _LENGTH.size)
        return _decode(file.read(min(length, 1 << 20)), path).description


def _decode(data: Buffer, path: Path) -> Summary:
    try:
        return _summary_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{path} has no readable summary") from error

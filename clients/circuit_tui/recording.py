"""A recorded session on disk: what was asked, and every reply with its frames, as they came.

A file begins with `MAGIC`; then come blocks: four bytes of length (little-endian), and as many of
zlib-compressed msgpack, one struct each. The first is a `Header`, the others are `Exchange`s.
Nothing in it is executed; sizes are checked before anything is unpacked, and a file that was cut
off is read as far as it is whole. Questions are known by a digest of the request, so that the same
question, asked again, finds its answers in the order in which they came.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from circuit_protocol.codec import encode
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.requests import Request
from circuit_protocol.tensors import Frame

T = TypeVar("T", "Header", "Exchange")

MAGIC: Final = b"circuit session 1\n"
#: A file and a block of it may be no larger; a recording stops there and says so.
FILE_NBYTES_MAX: Final = 256 << 20
BLOCK_NBYTES_MAX: Final = 64 << 20


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the recording is of: `welcome` is the daemon's reply to hello, as it came."""

    protocol: str
    welcome: bytes
    endpoint: str = ""
    recorded_at_s: float = 0.0


class HeldArray(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bytes of a tensor that a reply named by its handle."""

    handle: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reply, as frame 0 and the frames after it."""

    header: bytes
    frames: tuple[bytes, ...] = ()


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question, by its digest and as it was sent (without its frames), and its replies; the last
    is the final one.
    """

    digest: bytes
    request: bytes
    replies: tuple[Answered, ...]
    held: tuple[HeldArray, ...] = ()


def digest_of(request: Request, frames: Sequence[Frame]) -> bytes:
    """What a question is known by: all of it but what differs each time it is asked."""
    same = msgspec.structs.replace(request, id="?", idempotency_key=None, deadline_s=None)
    digest = hashlib.blake2b(encode(same), digest_size=16)
    for frame in frames:
        digest.update(len(memoryview(frame).cast("B")).to_bytes(8, "little"))
        digest.update(frame)
    return digest.digest()


class RecordingWriter:
    """Appends exchanges to a new file; what was written stays readable however it ends."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self._encoder = msgspec.msgpack.Encoder()
        self._nbytes = 0
        self.is_full = False
        self._file: BinaryIO = path.open("xb")
        self._file.write(MAGIC)
        self._write(header)

    def add(self, exchange: Exchange) -> None:
        """Write one exchange; nothing once the file is full."""
        if not self.is_full and not self._file.closed:
            self._write(exchange)

    def _write(self, block: Header | Exchange) -> None:
        data = self._encoder.encode(block)
        packed = zlib.compress(data, 6)
        if len(data) > BLOCK_NBYTES_MAX or self._nbytes + len(packed) > FILE_NBYTES_MAX:
            self.is_full = self._nbytes + len(packed) > FILE_NBYTES_MAX
            return
        self._nbytes += len(packed)
        self._file.write(len(packed).to_bytes(4, "little") + packed)
        self._file.flush()

    def close(self) -> None:
        """No more."""
        self._file.close()


class Recording(msgspec.Struct, frozen=True):
    """A recording, read: its exchanges by digest, in the order of each."""

    header: Header
    exchanges: dict[bytes, tuple[Exchange, ...]]


def read_recording(path: Path) -> Recording:
    """Read a recording whole. Raises NotFound, or InvalidRequest for a file that is none."""
    try:
        nbytes = path.stat().st_size
    except OSError:
        raise NotFound("there is no such recording", asked=str(path)) from None
    if nbytes > FILE_NBYTES_MAX + (1 << 20):
        raise InvalidRequest(
            "too large for a recording", asked=str(path), found=f"{nbytes:,} bytes"
        )
    with path.open("rb") as file:
        blocks = _blocks(file, path)
        header = _decoded(next(blocks, b""), Header, path)
        found: dict[bytes, list[Exchange]] = {}
        for block in blocks:
            exchange = _decoded(block, Exchange, path)
            found.setdefault(exchange.digest, []).append(exchange)
    return Recording(header, {digest: tuple(some) for digest, some in found.items()})


def _blocks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidRequest(
            "this is no recording of this version",
            asked=str(path),
            hint="`circuit tui --record FILE` makes one",
        )
    while len(length := file.read(4)) == 4:
        packed = file.read(int.from_bytes(length, "little"))
        if len(packed) < int.from_bytes(length, "little"):
            return  # cut off here: whoever recorded was killed while writing
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(packed, BLOCK_NBYTES_MAX)
        except zlib.error as e:
            raise InvalidRequest("a recording is damaged", asked=str(path), found=str(e)) from None
        if not unpacker.eof:
            raise InvalidRequest("a block of a recording is too large", asked=str(path))
        yield data


def _decoded(data: bytes, kind: type[T], path: Path) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InvalidRequest("a recording is damaged", asked=str(path), found=str(e)) from None

"""Tensors on the wire: `(dtype, shape, frame)` beside raw little-endian buffers, small ones inline.

A header (frame 0) names its tensors by the number of the frame that holds their bytes; tensors of
at most `INLINE_NBYTES` travel inside the header. dtype names are safetensors' own, so a frame holds
exactly the bytes a safetensors file would. numpy has no bfloat16: BF16 becomes `uint16` bit
patterns, which `bf16_to_float32` widens
and `float32_to_bf16` makes.
"""

from collections.abc import Sequence
from math import prod
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from circuit_protocol.errors import BadShape, MalformedMessage

DType = Literal[
    "BOOL", "U8", "I8", "U16", "I16", "I32", "I64", "U32", "U64", "F16", "BF16", "F32", "F64"
]

#: How each wire dtype lies in memory, little-endian. BF16 has no numpy type: its bits as uint16.
NUMPY_DTYPES: Final[dict[DType, np.dtype]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_WIRE_DTYPES: Final[dict[np.dtype, DType]] = {v: k for k, v in NUMPY_DTYPES.items() if k != "BF16"}

#: Tensors up to this size travel inside the header instead of in a frame of their own.
INLINE_NBYTES: Final = 512
MAX_NDIM: Final = 8

Frame = bytes | bytearray | memoryview


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="tensor"):
    """A tensor of a message: its bytes are frame number `frame` (1, 2, …) or inline in `data`."""

    dtype: DType
    shape: tuple[int, ...]
    frame: int | None = None
    data: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes that dtype and shape promise."""
        return prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize


class Handle(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="handle"):
    """A tensor that stayed in the daemon: fetch, slice or reduce it by `handle`, then release."""

    handle: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int


def pack(array: npt.ArrayLike, frames: list[Frame], *, dtype: DType | None = None) -> Tensor:
    """Describe `array` as a `Tensor`, appending its bytes to `frames` unless small.

    `frames` are the frames after the header: the first appended one is frame 1. No copy is made of
    a C-contiguous little-endian array. `dtype="BF16"` marks a uint16 array of bfloat16 bits.
    """
    try:
        a = np.asarray(array)
    except ValueError as e:
        raise BadShape("this is no array: its rows differ in length", found=str(e)) from None
    if dtype == "BF16" and a.dtype != np.uint16:
        raise BadShape(
            "BF16 is given as the bits of its numbers, a uint16 array",
            found=str(a.dtype),
            hint="`float32_to_bf16` makes them",
        )
    if dtype is None:
        dtype = _WIRE_DTYPES.get(a.dtype.newbyteorder("<"))
        if dtype is None:
            raise BadShape(
                "this array's dtype does not travel",
                found=str(a.dtype),
                hint=f"Use one of {', '.join(sorted(set(NUMPY_DTYPES)))}",
            )
    a = np.ascontiguousarray(a, dtype=NUMPY_DTYPES[dtype]).reshape(a.shape)
    if a.nbytes <= INLINE_NBYTES:
        return Tensor(dtype=dtype, shape=a.shape, data=a.tobytes())
    frames.append(a.reshape(-1).view(np.uint8).data)
    return Tensor(dtype=dtype, shape=a.shape, frame=len(frames))


def unpack(tensor: Tensor, frames: Sequence[Frame]) -> np.ndarray:
    """The array `tensor` describes, as a read-only view of its frame: nothing is copied.

    `frames` are the frames after the header. Raises MalformedMessage when frame, shape and size
    disagree.
    """
    if len(tensor.shape) > MAX_NDIM or any(n < 0 for n in tensor.shape):
        raise MalformedMessage("a tensor has an impossible shape", found=str(tensor.shape))
    if (tensor.frame is None) == (tensor.data is None):
        raise MalformedMessage("a tensor needs either a frame number or inline data, not both")
    if tensor.data is not None:
        buffer: Frame = tensor.data
    else:
        assert tensor.frame is not None  # narrowed by the check above
        if not 1 <= tensor.frame <= len(frames):
            raise MalformedMessage(
                "a tensor names a frame that was not sent",
                asked=f"frame {tensor.frame}",
                found=f"{len(frames)} frames",
            )
        buffer = frames[tensor.frame - 1]
    if memoryview(buffer).nbytes != tensor.nbytes:
        raise MalformedMessage(
            "a tensor's bytes do not fill its shape",
            asked=f"{tensor.dtype}{list(tensor.shape)}, {tensor.nbytes} bytes",
            found=f"{memoryview(buffer).nbytes} bytes",
        )
    try:
        array = np.frombuffer(buffer, dtype=NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)
    except ValueError as e:  # dimensions beyond the machine's, beside one that is 0
        raise MalformedMessage("a tensor has an impossible shape", found=str(e)) from None
    if tensor.dtype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
        raise MalformedMessage("a BOOL tensor holds a byte that is neither 0 nor 1")
    array.flags.writeable = False
    return array


def bf16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16 bit patterns (uint16, any shape) to float32, exactly."""
    return (np.asarray(bits, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)


def float32_to_bf16(values: npt.ArrayLike) -> np.ndarray:
    """Round to bfloat16, to nearest and ties to even: its bit patterns as uint16, same shape."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Rounding up a NaN's fraction could carry into an infinity: keep it a quiet NaN.
    quiet = (bits >> 16) | 0x40
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, quiet, rounded).astype(np.uint16)

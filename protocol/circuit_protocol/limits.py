"""What is refused before anything is allocated for it: frames, bytes, shapes.

The daemon announces its `Limits` in the welcome; ZeroMQ itself only knows a size per frame, and
closes the connection when one is larger, so a client checks what it sends by the same functions.
"""

from collections.abc import Collection, Sequence
from typing import Final

from circuit_protocol.daemon import Limits
from circuit_protocol.errors import BadShape, MalformedMessage, TooLarge
from circuit_protocol.interventions import Values
from circuit_protocol.tensors import MAX_NDIM, DType, Frame, Tensor

_MIB: Final = 1 << 20

#: Frame 0 holds no bulk data: what is longer than this is not decoded.
MAX_HEADER_NBYTES: Final = 8 * _MIB

DEFAULT_LIMITS: Final = Limits(
    frame_nbytes=256 * _MIB,
    message_nbytes=512 * _MIB,
    frames=1024,
    rows=32768,
    positions=4 * _MIB,
    masks=65536,
    queued_requests=256,
    held_nbytes=2048 * _MIB,
)

#: Wire dtypes that may hold token ids, targets, lengths or rows.
INTEGERS: Final[frozenset[DType]] = frozenset(
    {"U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"}
)
#: Wire dtypes that may hold activations and means.
FLOATS: Final[frozenset[DType]] = frozenset({"F16", "BF16", "F32", "F64"})


def check_frames(frames: Sequence[Frame], limits: Limits = DEFAULT_LIMITS) -> int:
    """The total size in bytes of one message, `frames[0]` being its header.

    Raises TooLarge for what is over a limit, MalformedMessage for a message without frames.
    """
    if not frames:
        raise MalformedMessage("a message has no frames")
    if len(frames) > limits.frames:
        raise _too_large("a message has too many frames", limits.frames, len(frames), "frames")
    sizes = [memoryview(frame).nbytes for frame in frames]
    if sizes[0] > MAX_HEADER_NBYTES:
        raise _too_large("frame 0 is too long", MAX_HEADER_NBYTES, sizes[0], "bytes")
    largest = max(sizes)
    if largest > limits.frame_nbytes:
        raise _too_large("a frame is too long", limits.frame_nbytes, largest, "bytes")
    total = sum(sizes)
    if total > limits.message_nbytes:
        raise _too_large("a message is too long", limits.message_nbytes, total, "bytes")
    return total


def check_tensor(
    tensor: Values,
    name: str,
    *,
    shape: Sequence[int | None] | None = None,
    dtypes: Collection[DType] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Refuse a tensor by its description alone, before its bytes are looked at.

    `shape` gives the size of each dimension (None: any), `dtypes` the dtypes that are allowed.
    `name` is the field, for the sentence. Raises BadShape, TooLarge or MalformedMessage.
    """
    if len(tensor.shape) > MAX_NDIM or any(n < 0 for n in tensor.shape):
        raise MalformedMessage(f"{name} has an impossible shape", found=str(list(tensor.shape)))
    if dtypes is not None and tensor.dtype not in dtypes:
        raise BadShape(
            f"{name} has the wrong dtype", asked=tensor.dtype, hint=f"Use {_one_of(dtypes)}"
        )
    if shape is not None and not _fits(tensor.shape, shape):
        raise BadShape(
            f"{name} has the wrong shape",
            asked=str(list(tensor.shape)),
            hint=f"It must be [{', '.join('any' if n is None else str(n) for n in shape)}]",
        )
    if isinstance(tensor, Tensor) and tensor.nbytes > limits.frame_nbytes:
        raise _too_large(f"{name} is too large", limits.frame_nbytes, tensor.nbytes, "bytes")


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(
        w is None or f == w for f, w in zip(found, wanted, strict=True)
    )


def _one_of(dtypes: Collection[DType]) -> str:
    return " or ".join(sorted(dtypes))


def _too_large(message: str, limit: int, found: int, unit: str) -> TooLarge:
    return TooLarge(
        message,
        asked=f"{found} {unit}",
        hint=f"The limit is {limit} {unit}; the welcome announces all limits",
    )

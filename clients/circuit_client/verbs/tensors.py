"""`tensor.*`: the bytes of a held tensor, or a view or summary computed where it is."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from circuit_client.answers import Reduction
from circuit_client.call import UNSENT_ID, Call, Received, progress_only
from circuit_client.mapping import has_room, map_file
from circuit_client.values import Parcel, Value
from circuit_protocol.errors import InvalidRequest, MalformedMessage
from circuit_protocol.replies import AnyReply, Chunk, Mapped, Progress, Reduced
from circuit_protocol.requests import Credit, Fetch, MapTensor, Reduce
from circuit_protocol.tensors import NUMPY_DTYPES, Frame, Handle
from circuit_protocol.version import MAP_TENSOR

#: Small enough to stay in cache and reuse memory, large enough that messages cost nothing.
CHUNK_NBYTES = 2 << 20
#: Chunks that may be under way at once.
WINDOW = 16
#: What is smaller is sent sooner than mapped.
MIN_MAPPED_NBYTES = 1 << 16


def fetch_handle(handle: Handle, instance: str | None = None) -> Call[Progress, np.ndarray]:
    """The bytes of `handle` as an array of the caller's own; BF16 as bits (uint16).

    On the daemon's machine its file is mapped, so that nothing is copied until it is written to;
    elsewhere, and when that fails, the bytes are sent.
    """
    sent = fetch_sent(handle, instance)
    if handle.nbytes < MIN_MAPPED_NBYTES or not has_room():
        return sent
    mapped: list[np.ndarray] = []

    def absorb(reply: AnyReply, frames: Sequence[Frame]) -> None:
        if isinstance(reply, Mapped):
            mapped.append(map_file(Path(reply.path), handle))

    def read(received: Received) -> np.ndarray:
        return mapped[0] if mapped else sent.read_result(received)

    return Call(
        MapTensor(id=UNSENT_ID, handle=handle.handle),
        read,
        _no_event,
        resend=False,
        instance=instance,
        absorb=absorb,
        capability=MAP_TENSOR,
        otherwise=sent,
    )


def fetch_sent(handle: Handle, instance: str | None = None) -> Call[Progress, np.ndarray]:
    """The bytes of `handle`, sent, in one array that is allocated when the first of them come.

    Chunks are written where they arrive, and each half window of them is answered with as much
    credit, so that the daemon never has more than a window under way.
    """
    array: np.ndarray | None = None
    target = memoryview(b"")
    arrived = 0
    uncredited = 0

    def absorb(reply: AnyReply, frames: Sequence[Frame]) -> Credit | None:
        nonlocal array, target, arrived, uncredited
        if not isinstance(reply, Chunk):
            return None
        if array is None:
            array = np.empty(handle.shape, dtype=NUMPY_DTYPES[handle.dtype])
            target = array.reshape(-1).view(np.uint8).data
        end = reply.offset + reply.nbytes
        data = frames[0] if frames else b""
        if end > target.nbytes or memoryview(data).nbytes != reply.nbytes:
            raise MalformedMessage(
                "a chunk does not fit the tensor it belongs to",
                asked=f"{target.nbytes} bytes",
                found=f"bytes {reply.offset} to {end} in a frame of {memoryview(data).nbytes}",
            )
        target[reply.offset : end] = data
        arrived += reply.nbytes
        uncredited += 1
        if reply.final or uncredited < WINDOW // 2:
            return None
        credit, uncredited = uncredited, 0
        return Credit(id=reply.id, chunks=credit)

    def read(received: Received) -> np.ndarray:
        received.expect(Chunk)
        if array is None or arrived != target.nbytes:
            raise MalformedMessage(
                "a tensor arrived with holes", asked=f"{target.nbytes} bytes", found=str(arrived)
            )
        return array

    request = Fetch(id=UNSENT_ID, handle=handle.handle, chunk_nbytes=CHUNK_NBYTES, credit=WINDOW)
    return Call(request, read, _no_event, resend=False, instance=instance, absorb=absorb)


def _no_event(received: Received) -> None:
    return None


def fetch(value: Value) -> Call[Progress, np.ndarray]:
    """The whole array of a held value (bfloat16 widened to float32); the value keeps it, too."""
    call = fetch_handle(_handle(value), value.instance)

    def read(received: Received) -> np.ndarray:
        value.settle(call.read_result(received))
        return value.numpy()

    return dataclasses.replace(call, read_result=read)


def _handle(value: Value) -> Handle:
    if not isinstance(value.tensor, Handle):
        raise InvalidRequest(
            "this value came with its answer; nothing of it is in the daemon",
            hint='Use numpy on it, or ask with deliver="handle"',
        )
    return value.tensor


def _reduce(
    value: Value, how: Any, parcel: Parcel | None = None, **fields: Any
) -> Call[Progress, Reduction]:
    parcel = parcel or Parcel()

    def read(received: Received) -> Reduction:
        return Reduction(received.expect(Reduced), received)

    request = Reduce(id=UNSENT_ID, handle=_handle(value).handle, how=how, **fields)
    return Call(request, read, progress_only, frames=tuple(parcel.frames), instance=value.instance)


def slice_of(value: Value, *index: slice | int) -> Call[Progress, Reduction]:
    """A part of a held value: one slice (or index, kept as a dimension of 1) per dimension."""
    slices = tuple(
        (i.start, i.stop, i.step)
        if isinstance(i, slice)
        else (int(i), int(i) + 1 if i != -1 else None, None)
        for i in index
    )
    return _reduce(value, "slice", slices=slices)


def top_k(value: Value, k: int = 16) -> Call[Progress, Reduction]:
    """The `k` entries of largest magnitude and their indices [k, ndim]."""
    return _reduce(value, "top_k", k=k)


def norm(value: Value, axis: int = -1) -> Call[Progress, Reduction]:
    """Euclidean norm along an axis."""
    return _reduce(value, "norm", axis=axis)


def mean(value: Value, axis: int = -1) -> Call[Progress, Reduction]:
    """Mean along an axis."""
    return _reduce(value, "mean", axis=axis)


def quantiles(
    value: Value, at: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
) -> Call[Progress, Reduction]:
    """Quantiles of all entries."""
    return _reduce(value, "quantiles", quantiles=tuple(float(q) for q in at))


def project(value: Value, directions: npt.ArrayLike) -> Call[Progress, Reduction]:
    """The last axis multiplied by `directions` [n, width]."""
    parcel = Parcel()
    packed = parcel.array(directions)
    return _reduce(value, "project", parcel, directions=packed)

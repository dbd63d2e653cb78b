"""A reply on its way out: whether each of its tensors goes inline, in a frame or into a segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch

from circuit_protocol.errors import TooLarge
from circuit_protocol.interventions import Values
from circuit_protocol.limits import DEFAULT_LIMITS
from circuit_protocol.replies import Reply
from circuit_protocol.tensors import DType, Frame, Handle, Tensor, pack
from circuitd import work
from circuitd.store.segments import SegmentDir
from circuitd.worker.wire_tensors import WIRE_DTYPES, copy_into, to_numpy

#: How a large result travels: by size, always in the reply, or always held. Small ones are inline.
Deliver = Literal["auto", "inline", "handle"]
#: With "auto", a reply carries at most so much; its largest tensors stay under a handle instead.
AUTO_INLINE_NBYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Output:
    """A reply with its frames and the tensors newly held for it.

    `item` is the index of the answered item in its `Run` (0 unless several run as one batch).
    """

    reply: Reply
    frames: Sequence[Frame] = ()
    segments: tuple[work.Segment, ...] = ()
    item: int = 0


def deliveries(how: Deliver, sizes: Sequence[int]) -> list[Deliver]:
    """How each tensor of one reply travels, given the sizes of all of them in bytes.

    With "auto" the largest are held, as many as it takes for the others to be few enough to send.
    """
    if how != "auto":
        return [how] * len(sizes)
    ways: list[Deliver] = ["inline"] * len(sizes)
    sent_nbytes = sum(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if sent_nbytes <= AUTO_INLINE_NBYTES:
            break
        ways[i] = "handle"
        sent_nbytes -= sizes[i]
    return ways


class Parcel:
    """The tensors of one reply while it is put together; `seal` makes the `Output`.

    Use it in a `with` statement: what was held for a reply that never came to be is let go.
    A job's reply outlives the daemon and what it holds, so for a job (`may_hold=False`) everything
    is sent along.
    """

    def __init__(self, held: SegmentDir, item: int = 0, *, may_hold: bool = True) -> None:
        self._held = held
        self._item = item
        self._may_hold = may_hold
        self._frames: list[Frame] = []
        self._segments: list[work.Segment] = []

    def put(self, values: torch.Tensor | np.ndarray) -> Tensor:
        """Send `values` along with the reply. They must not change afterwards.

        Raises TooLarge for what no frame may hold.
        """
        if values.nbytes > DEFAULT_LIMITS.frame_nbytes:
            raise TooLarge(
                "a result is too large to be sent as one frame",
                asked=f"{values.nbytes} bytes",
                hint=f"The limit is {DEFAULT_LIMITS.frame_nbytes} bytes: leave it in the daemon "
                "(deliver='handle'), or ask for less",
            )
        if isinstance(values, np.ndarray):
            return pack(values, self._frames)
        return pack(to_numpy(values), self._frames, dtype=WIRE_DTYPES[values.dtype])

    def deliver(self, values: torch.Tensor, how: Deliver, description: str) -> Values:
        """Send `values` along or hold them, as `how` says. Raises StorageFull.

        A reply with several of them decides about all together first (`deliveries`).
        """
        is_small = how == "auto" and values.nbytes <= AUTO_INLINE_NBYTES
        if how == "inline" or is_small or not self._may_hold:
            return self.put(values)
        handle, array = self._hold(WIRE_DTYPES[values.dtype], values.shape, description)
        copy_into(array, values)
        return handle

    def deliver_array(self, array: np.ndarray, dtype: DType, description: str) -> Values:
        """The same by size for a numpy array, which may be a view of a held tensor."""
        if array.nbytes <= AUTO_INLINE_NBYTES or not self._may_hold:
            return pack(array, self._frames, dtype=dtype)
        handle, held = self._hold(dtype, array.shape, description)
        held[...] = array
        return handle

    def _hold(
        self, dtype: DType, shape: Sequence[int], description: str
    ) -> tuple[Handle, np.ndarray]:
        segment, array = self._held.create(dtype, shape, description=description)
        self._segments.append(segment)
        handle = Handle(
            handle=segment.handle, dtype=dtype, shape=segment.shape, nbytes=segment.nbytes
        )
        return handle, array

    def seal(self, reply: Reply) -> Output:
        """The reply that mentions these tensors, ready to be sent; they are its own now."""
        segments, self._segments = tuple(self._segments), []
        return Output(reply, self._frames, segments, self._item)

    def __enter__(self) -> Parcel:
        return self

    def __exit__(self, *_: object) -> None:
        for segment in self._segments:
            self._held.delete(segment)

"""Tensors of an answer: arrays that are here, or handles of arrays that stayed in the daemon."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from circuit_protocol.errors import Conflict
from circuit_protocol.interventions import Values
from circuit_protocol.tensors import DType, Frame, Handle, Tensor, bf16_to_float32, pack, unpack


class Keeper(Protocol):
    """What a value needs of the connection its handle is leased to."""

    @property
    def instance(self) -> str:
        """Which daemon answers at the moment: handles of another one mean nothing to it."""
        ...

    def fetch_now(self, handle: Handle, instance: str) -> np.ndarray:
        """The tensor's bytes as an array, waited for; NotFound if `instance` has ended."""
        ...

    def lease(self, handle: str, instance: str) -> None:
        """One more value refers to `handle` of the daemon `instance`."""
        ...

    def release(self, handle: str, instance: str) -> None:
        """One value fewer refers to `handle`; the last one lets the daemon free it."""
        ...


class Value:
    """A tensor of an answer. numpy takes it for an array; a held one is fetched at first touch.

    numpy has no bfloat16, so BF16 is widened to float32 (exactly). A value that stayed in the
    daemon can also be sliced and reduced there (`c.tensors`) or given to an intervention without
    ever travelling; the daemon frees it when the last value that names it is gone.
    """

    __slots__ = ("__weakref__", "_array", "_keeper", "instance", "tensor")

    def __init__(self, tensor: Values, frames: Sequence[Frame], keeper: Keeper) -> None:
        #: The tensor as the protocol describes it.
        self.tensor = tensor
        #: The daemon that holds it.
        self.instance = keeper.instance
        self._keeper = keeper
        self._array: np.ndarray | None = None
        if isinstance(tensor, Tensor):
            self._array = widen(unpack(tensor, frames), tensor.dtype)
        else:
            keeper.lease(tensor.handle, self.instance)
            finalizer = weakref.finalize(self, keeper.release, tensor.handle, self.instance)
            finalizer.atexit = False  # by then the connection has let go of everything

    @property
    def is_here(self) -> bool:
        """Whether the bytes are in this process already."""
        return self._array is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, known without fetching."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """The protocol's name of the dtype in the daemon ("F32", "BF16", …)."""
        return self.tensor.dtype

    @property
    def nbytes(self) -> int:
        """Size in the daemon, in bytes."""
        return self.tensor.nbytes

    def numpy(self) -> np.ndarray:
        """The array, read-only if it came with the reply; fetched now if it is not here yet."""
        if self._array is None:
            assert isinstance(self.tensor, Handle)  # a Tensor was unpacked when it arrived
            self.settle(self._keeper.fetch_now(self.tensor, self.instance))
        assert self._array is not None
        return self._array

    def settle(self, array: np.ndarray) -> None:
        """Take `array`, as it was fetched, for this value's bytes."""
        self._array = widen(array, self.tensor.dtype)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        where = "here" if self.is_here else "in the daemon"
        return f"Value({self.dtype}{list(self.shape)}, {where})"


#: An array, or a tensor of an earlier answer.
TensorLike = npt.ArrayLike | Value


@dataclass(slots=True)
class Parcel:
    """A message in the making: frames to send, and the daemon whose handles it names."""

    frames: list[Frame] = field(default_factory=list)
    instance: str | None = None

    def array(self, array: npt.ArrayLike) -> Tensor:
        """`array` as a tensor of this message."""
        return pack(array, self.frames)

    def value(self, value: TensorLike) -> Tensor | Handle:
        """`value` as a tensor of this message, or as the handle it has already."""
        if not isinstance(value, Value):
            return self.array(value)
        if isinstance(value.tensor, Tensor):
            return self.array(value.numpy())
        if self.instance not in (None, value.instance):
            raise Conflict("one request names tensors that different daemons hold")
        self.instance = value.instance
        return value.tensor


def widen(array: np.ndarray, dtype: DType) -> np.ndarray:
    """`array` as numpy can use it: bfloat16 bits become float32, all else stays."""
    return bf16_to_float32(array) if dtype == "BF16" else array

"""torch tensors to the wire's dtypes and back, without a copy where memory already lies right."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from circuit_protocol.tensors import DType

WIRE_DTYPES: Final[dict[torch.dtype, DType]] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
TORCH_DTYPES: Final[dict[DType, torch.dtype]] = {wire: dtype for dtype, wire in WIRE_DTYPES.items()}

#: Most bytes that are copied from a GPU into pinned memory.
_PINNED_NBYTES: Final = 16 << 20


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The numbers on the CPU, C-contiguous, sharing memory where possible; BF16 as uint16 bits."""
    tensor = _on_cpu(tensor.detach().contiguous())
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy()


def to_torch(array: np.ndarray, dtype: DType) -> torch.Tensor:
    """A copy of `array` [any shape] as a tensor; `array` holds bits when `dtype` is BF16.

    A copy, because the array may be a read-only or unaligned view of a received frame.
    """
    tensor = torch.from_numpy(array.copy())
    return tensor.view(torch.bfloat16) if dtype == "BF16" else tensor


def copy_into(array: np.ndarray, tensor: torch.Tensor) -> None:
    """Write `tensor` into the writable `array` of the same shape (BF16: uint16 bits)."""
    target = torch.from_numpy(array)
    if tensor.dtype == torch.bfloat16:
        target = target.view(torch.bfloat16)
    target.copy_(tensor.detach())


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """On the CPU: from CUDA in pinned memory, which torch keeps for the next; fresh memory takes
    ten times as long as the copy. What is larger than should be kept goes into memory of its own.
    """
    if tensor.device.type != "cuda" or tensor.nbytes > _PINNED_NBYTES:
        return tensor.to("cpu")
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return pinned

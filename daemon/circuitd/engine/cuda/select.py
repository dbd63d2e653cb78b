"""AbsTopK on CUDA: one pass over memory, no sort, and no question that the host must wait for."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from circuitd.engine.cuda import kernels

#: Entries that one program holds in registers; wider rows are left to torch.
MOST_ENTRIES: Final = 1 << 14
#: By how much the bits of neighbouring numbers of a type differ at least, as float32.
_STEPS: Final = {torch.float32: 1, torch.float16: 1 << 13, torch.bfloat16: 1 << 16}


def covers(x: Tensor) -> bool:
    """Whether the kernel takes rows as wide, of this type."""
    return x.dtype in _STEPS and x.shape[-1] <= MOST_ENTRIES


def keep_largest(x: Tensor, k: int) -> Tensor:
    """Zero all but the `k` largest-magnitude entries of each row of `x` [..., width]."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _KeepLargest.apply(x, k)
    return _select(x, k, None)


class _KeepLargest(torch.autograd.Function):
    """The gradient passes through the kept entries only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        kept = torch.empty(x.shape, dtype=torch.bool, device=x.device)
        ctx.save_for_backward(kept)
        return _select(x, k, kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, grads[0], 0.0), None


def _select(x: Tensor, k: int, kept: Tensor | None) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    n_rows = x.numel() // width
    if not n_rows:
        return out
    padded = max(16, 1 << (width - 1).bit_length())
    rows = max(1, 1024 // padded)  # narrow rows share a program
    kernels.select[(-(-n_rows // rows),)](
        x, out, out if kept is None else kept, n_rows, width, k,
        ROWS=rows, WIDTH=padded, STEP=_STEPS[x.dtype], KEEPS_MASK=kept is not None,
        num_warps=8 if padded > 4096 else 4,
    )  # fmt: skip
    return out

"""A matrix on CUDA as its nonzeros: products with activations, and their gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from circuitd.engine.cuda import kernels
from circuitd.engine.nonzeros import Nonzeros

#: From so many tokens on, turning the activations into lanes pays.
_LANES_FROM: Final = 512
#: Rows and tokens of one program, and of a tile that is turned.
_ROWS: Final = 128
_LANE_ROWS: Final = 16
_LANES: Final = 64


@dataclass(frozen=True, eq=False)
class _Rows:
    """Compressed rows on the device: int32 [rows + 1], int32 [n], and their values [n]."""

    shape: tuple[int, int]
    starts: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def of(cls, nonzeros: Nonzeros, device: torch.device, dtype: torch.dtype) -> _Rows:
        """The entries of `nonzeros`, moved to `device`."""
        # Copied, as those of a packed file cannot be written to, which torch warns of.
        return cls(
            nonzeros.shape,
            torch.from_numpy(nonzeros.starts.copy()).to(device),
            torch.from_numpy(nonzeros.columns.astype("int32")).to(device),
            torch.from_numpy(nonzeros.values.copy()).to(device, dtype),
        )

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    def times(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias for each token of `x` [..., n_in]."""
        n_out, n_in = self.shape
        x = x.contiguous()
        out = x.new_empty((*x.shape[:-1], n_out))
        n_tokens = x.numel() // n_in
        if not n_tokens:
            return out
        more = {"HAS_BIAS": bias is not None}
        bias = self.values if bias is None else bias
        if n_tokens < _LANES_FROM:
            kernels.multiply[(-(-n_out // _ROWS), n_tokens)](
                x, self.starts, self.columns, self.values, bias, out, n_in, n_out,
                ROWS=_ROWS, **more,
            )  # fmt: skip
            return out
        n_lanes = -(-n_tokens // _LANES) * _LANES
        lanes = x.new_empty(n_in, n_lanes)
        kernels.turn[(n_lanes // _LANES, -(-n_in // _LANES))](
            x, lanes, n_tokens, n_lanes, n_in, TILE=_LANES
        )
        n_blocks = -(-n_out // _LANE_ROWS)
        kernels.multiply_lanes[(n_blocks * (n_lanes // _LANES),)](
            lanes, self.starts, self.columns, self.values, bias, out, n_tokens, n_lanes, n_out,
            n_blocks, TOKENS=_LANES, ROWS=_LANE_ROWS, **more,
        )  # fmt: skip
        return out


class CudaProduct:
    """Multiplies by one matrix [n_out, n_in]. What gradients need is made when one is wanted."""

    def __init__(self, nonzeros: Nonzeros, device: torch.device, dtype: torch.dtype) -> None:
        self._nonzeros, self._device, self._dtype = nonzeros, device, dtype
        self._rows = _Rows.of(nonzeros, device, dtype)

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        turned = self.__dict__.get("_columns")
        return self._rows.nbytes + (0 if turned is None else turned.nbytes)

    def is_faster(self, n_tokens: int) -> bool:
        """Always: only a matrix that is faster this way is given one, and is not dense then."""
        return True

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias for each token of `x` [..., n_in]: [..., n_out], in the type of `x`."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Product.apply(x, bias, self)
        return self._rows.times(x, bias)

    def transposed(self, grad: Tensor) -> Tensor:
        """The gradient by x [..., n_in] of that by the product `grad` [..., n_out]."""
        return self._columns.times(grad, None)

    @cached_property
    def _columns(self) -> _Rows:
        return _Rows.of(self._nonzeros.transposed(), self._device, self._dtype)


class _Product(torch.autograd.Function):
    """Differentiates activations only, as the engine never learns weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, product: CudaProduct) -> Tensor:
        ctx.product = product
        return product._rows.times(x, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.product.transposed(grads[0]), None, None

"""A network's tensors as the tile kernels read them: of the block matrices, only the nonzeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from circuitd.engine.config import GPTConfig
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.sparse.product import NonzeroProduct
from circuitd.engine.sparse.rows import Rows, sort_rows
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.weights import Norm, Weights

Array = np.ndarray[Any, Any]

_NONE = np.zeros((0, 0), np.float32)
_LAYER_NORM_EPS = 1e-5
_RMS_NORM_EPS = float(torch.finfo(torch.float32).eps)


@dataclass(frozen=True, eq=False)
class Matrix:
    """One matrix [n_out, n_in] and its bias [n_out]; `rows` is None where the dense product is to
    be used.
    """

    weight: WeightMatrix
    bias: Array
    rows: Rows | None

    @property
    def nbytes(self) -> int:
        """Bytes beside the weight's own."""
        return 0 if self.rows is None else self.rows.nbytes

    def product(self, threads: Threads) -> NonzeroProduct | None:
        """For passes that do not run on tiles: the same nonzeros, multiplied by token."""
        return None if self.rows is None else NonzeroProduct(self.weight.shape, self.rows, threads)

    @classmethod
    def of(cls, weight: WeightMatrix, bias: Tensor | None, *, is_sparse: bool) -> Matrix:
        """`weight` with its nonzeros at hand, unless it shall be multiplied densely."""
        added = np.zeros(weight.shape[0], np.float32) if bias is None else bias.numpy()
        return cls(weight, added, sort_rows(weight.nonzeros) if is_sparse else None)


class NormArrays(NamedTuple):
    """Gain [d], bias [d] or empty, and what keeps the division finite."""

    gain: Array
    bias: Array
    is_rms: bool
    eps: float

    @classmethod
    def of(cls, norm: Norm) -> NormArrays:
        """The arrays of `norm`, which share its memory."""
        bias = np.empty(0, np.float32) if norm.bias is None else norm.bias.numpy()
        eps = _RMS_NORM_EPS if norm.is_rms else _LAYER_NORM_EPS
        return cls(norm.gain.numpy(), bias, norm.is_rms, eps)


@dataclass(frozen=True, eq=False)
class LayerArrays:
    """One block. `attn_pos`, `mlp_pos` [T, d_pos], or [0, 0] without positional channels."""

    ln_1: NormArrays
    attn_pos: Array
    c_attn: Matrix
    sinks: Array  # [n_head], or [0]
    attn_proj: Matrix
    ln_2: NormArrays
    mlp_pos: Array
    c_fc: Matrix
    mlp_proj: Matrix

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """In the order in which they are multiplied by."""
        return self.c_attn, self.attn_proj, self.c_fc, self.mlp_proj


@dataclass(frozen=True, eq=False)
class SparseWeights:
    """What the tile kernels read of one network; all but the nonzeros shares its memory."""

    config: GPTConfig
    wte: Array  # [V, d]
    wpe: Array  # [T, d], or [0, 0]
    layers: tuple[LayerArrays, ...]

    @property
    def nbytes(self) -> int:
        """Bytes beside those of the dense weights."""
        return sum(matrix.nbytes for layer in self.layers for matrix in layer.matrices)

    @classmethod
    def of(cls, weights: Weights, is_sparse: tuple[tuple[bool, ...], ...]) -> SparseWeights:
        """The arrays of float32 `weights` on the CPU; `is_sparse` says it of each layer's c_attn,
        attn_proj, c_fc and mlp_proj.
        """

        def table(values: Tensor | None) -> Array:
            return _NONE if values is None else values.numpy()

        layers = tuple(
            LayerArrays(
                ln_1=NormArrays.of(layer.ln_1),
                attn_pos=table(layer.attn_pos),
                c_attn=Matrix.of(layer.matrices.c_attn, layer.c_attn_bias, is_sparse=chosen[0]),
                sinks=np.empty(0, np.float32)
                if layer.sink_logit is None
                else layer.sink_logit.numpy(),
                attn_proj=Matrix.of(
                    layer.matrices.attn_proj, layer.attn_proj_bias, is_sparse=chosen[1]
                ),
                ln_2=NormArrays.of(layer.ln_2),
                mlp_pos=table(layer.mlp_pos),
                c_fc=Matrix.of(layer.matrices.c_fc, layer.c_fc_bias, is_sparse=chosen[2]),
                mlp_proj=Matrix.of(
                    layer.matrices.mlp_proj, layer.mlp_proj_bias, is_sparse=chosen[3]
                ),
            )
            for layer, chosen in zip(weights.layers, is_sparse, strict=True)
        )
        return cls(weights.config, weights.wte.numpy(), table(weights.wpe), layers)

"""Which execution a network runs on: what a nonzero and a dense product cost here, measured.

Each block matrix is multiplied densely or by its nonzeros, whichever is cheaper for its shape and
density; then one whole layer is timed both ways, since the sparse blocks also select and attend
faster. The measurement is bounded and its outcome a plain value, so that it can be kept.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from circuitd.engine.gpt import forward
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.plan import Plan
from circuitd.engine.sparse import tile_kernels
from circuitd.engine.sparse.blocks import SparseBlocks
from circuitd.engine.sparse.matrices import SparseWeights
from circuitd.engine.sparse.select import TILE
from circuitd.engine.weights import Matrices, Weights

#: Tokens of the passes that are timed.
N_TOKENS: Final = 64
#: Nonzeros of the matrix that the sparse product is timed on, as a share of its entries.
_DENSITY: Final = 0.01
#: Denser matrices are never worth compressing, whatever a short measurement says.
_MAX_DENSITY: Final = 0.5
#: Seconds that timing one thing may take beyond its first run.
_SLICE_S: Final = 0.01


@dataclass(frozen=True)
class Choice:
    """How to run one network on one machine.

    `is_sparse` says of each layer's c_attn, attn_proj, c_fc and mlp_proj whether its product is
    taken over nonzeros; it is empty where the dense execution is used, and `reason` says why.
    `dense_s` and `sparse_s` are what a layer took for `N_TOKENS` tokens, where it was measured.
    """

    is_sparse: tuple[tuple[bool, ...], ...] = ()
    reason: str = ""
    dense_s: float = 0.0
    sparse_s: float = 0.0

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.is_sparse:
            return f"dense, since {self.reason}"
        n_sparse = sum(sum(layer) for layer in self.is_sparse)
        speed = f", {self.dense_s / self.sparse_s:.1f} times as fast as dense"
        return f"sparse ({n_sparse} of {4 * len(self.is_sparse)} matrices{speed})"


def why_not(weights: Weights) -> str | None:
    """What keeps this network off the tile kernels; None when they can run it."""
    if weights.device.type != "cpu":
        return f"it is on {weights.device} and the kernels are for the CPU"
    if weights.dtype != torch.float32:
        return f"it is in {str(weights.dtype).removeprefix('torch.')} and the kernels take float32"
    return None


def choose(weights: Weights) -> Choice:
    """Measure. A fraction of a second for the largest published model."""
    if (reason := why_not(weights)) is not None:
        return Choice(reason=reason)
    first = weights.layers[0]
    # Made dense for the measurement alone: a packed model shall stay as small as it is.
    dense = Matrices(*(WeightMatrix.of(matrix.to_dense()) for matrix in first.matrices))
    limits = [_break_even(matrix.dense) for matrix in dense]
    is_sparse = tuple(
        tuple(m.count_nonzero() <= most for m, most in zip(layer.matrices, limits, strict=True))
        for layer in weights.layers
    )
    one = dataclasses.replace(
        weights,
        config=dataclasses.replace(weights.config, n_layer=1),
        layers=(dataclasses.replace(first, matrices=dense),),
    )
    tokens = torch.zeros(1, min(N_TOKENS, one.config.block_size), dtype=torch.int64)
    plan = Plan(logits="none")
    dense_s = _fastest(lambda: forward(one, tokens, plan))
    sparse = apply(one, Choice(is_sparse[:1]))
    sparse_s = _fastest(lambda: forward(sparse, tokens, plan))
    if sparse_s >= dense_s:
        speed = f"sparse took {sparse_s / dense_s:.1f} times as long"
        return Choice(reason=speed, dense_s=dense_s, sparse_s=sparse_s)
    return Choice(is_sparse, "", dense_s, sparse_s)


def apply(weights: Weights, choice: Choice) -> Weights:
    """The same weights, running as chosen. Raises ValueError for a choice about another network."""
    if not choice.is_sparse:
        return dataclasses.replace(weights, sparse=None)
    if len(choice.is_sparse) != len(weights.layers):
        raise ValueError(
            f"a choice for {len(choice.is_sparse)} layers, the network has {len(weights.layers)}"
        )
    return dataclasses.replace(
        weights, sparse=SparseBlocks(SparseWeights.of(weights, choice.is_sparse))
    )


def _break_even(weight: torch.Tensor) -> int:
    """Nonzeros at which both products of a matrix of this shape cost the same."""
    n_out, n_in = weight.shape
    rng = np.random.default_rng(0)
    in_row = max(1, round(_DENSITY * n_in))
    starts = (in_row * np.arange(n_out + 1)).astype(np.int32)
    index = np.uint16 if n_in <= 1 << 16 else np.int32
    columns = rng.integers(0, n_in, n_out * in_row).astype(index)
    values = rng.standard_normal(n_out * in_row, np.float32)
    x, out = rng.standard_normal((n_in, TILE), np.float32), np.empty((n_out, TILE), np.float32)
    bias = np.zeros(n_out, np.float32)
    tile_s = _fastest(lambda: tile_kernels.multiply(x, starts, columns, values, bias, out))
    activations = torch.randn(N_TOKENS, n_in)
    with torch.inference_mode():
        dense_s = _fastest(lambda: F.linear(activations, weight))
    # One tile was timed on one thread; the dense product had all of them.
    n_threads = min(torch.get_num_threads(), N_TOKENS // TILE)
    sparse_s = tile_s * (N_TOKENS / TILE) / n_threads
    return int(min(_MAX_DENSITY * weight.numel(), len(values) * dense_s / sparse_s))


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs after one that does not count."""
    work()
    best, spent = float("inf"), 0.0
    while spent < _SLICE_S:
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return best

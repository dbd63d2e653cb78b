"""Which execution a network runs on: a plain value, measured when a model is loaded, and kept.

The dense execution covers everything. The tiles cover what is in float32 on the CPU, and are taken
where one layer is faster on them; whether a matrix is then multiplied by its nonzeros is decided
for each. A small network is not measured, nor are the compiled kernels loaded for it.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from circuitd.engine.gpt import forward
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.plan import Plan
from circuitd.engine.weights import Matrices, Weights

#: Tokens of the passes that are timed.
N_TOKENS: Final = 32
#: A network with fewer weights in a layer has nothing to gain: what is fixed costs more.
_MIN_WEIGHTS: Final = 1 << 16
#: Seconds that timing one thing should take.
_SLICE_S: Final = 5e-3


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
        speed = f"{self.dense_s / self.sparse_s:.1f} times as fast as dense"
        return f"sparse ({n_sparse} of {4 * len(self.is_sparse)} matrices, {speed})"


def why_not(weights: Weights) -> str | None:
    """What keeps this network off the tile kernels; None when they can run it."""
    if weights.device.type != "cpu":
        return f"it is on {weights.device} and the kernels are for the CPU"
    if weights.dtype != torch.float32:
        return f"it is in {str(weights.dtype).removeprefix('torch.')} and the kernels take float32"
    return None


def choose(weights: Weights) -> Choice:
    """Measure: some hundred milliseconds for the largest published model."""
    if (reason := why_not(weights)) is not None:
        return Choice(reason=reason)
    first = weights.layers[0]
    if sum(math.prod(matrix.shape) for matrix in first.matrices) < _MIN_WEIGHTS:
        return Choice(reason="it is small")
    # Made dense for the measurement alone: a packed model shall stay as small as it is.
    dense = Matrices(*(WeightMatrix.of(matrix.to_dense()) for matrix in first.matrices))
    one = dataclasses.replace(
        weights,
        config=dataclasses.replace(weights.config, n_layer=1),
        layers=(dataclasses.replace(first, matrices=dense),),
    )
    tokens = torch.zeros(1, min(N_TOKENS, one.config.block_size), dtype=torch.int64)
    plan = Plan(logits="none")
    dense_s = fastest(lambda: forward(one, tokens, plan))
    from circuitd.engine.sparse.break_even import break_even

    limits = [break_even(matrix.dense, N_TOKENS) for matrix in dense]
    is_sparse = tuple(
        tuple(m.count_nonzero() <= most for m, most in zip(layer.matrices, limits, strict=True))
        for layer in weights.layers
    )
    sparse = apply(one, Choice(is_sparse[:1]))
    forward(sparse, tokens, plan)  # loads the kernels
    sparse_s = fastest(lambda: forward(sparse, tokens, plan))
    if sparse_s >= dense_s:
        reason = f"sparse takes {sparse_s / dense_s:.1f} times as long"
        return Choice(reason=reason, dense_s=dense_s, sparse_s=sparse_s)
    return Choice(is_sparse, "", dense_s, sparse_s)


def apply(weights: Weights, choice: Choice) -> Weights:
    """The same weights, running as chosen. Raises ValueError for a choice about another network."""
    if not choice.is_sparse:
        return dataclasses.replace(weights, sparse=None)
    if len(choice.is_sparse) != len(weights.layers):
        raise ValueError(
            f"a choice for {len(choice.is_sparse)} layers, the network has {len(weights.layers)}"
        )
    from circuitd.engine.sparse.blocks import SparseBlocks
    from circuitd.engine.sparse.matrices import SparseWeights

    nonzeros = SparseWeights.of(weights, choice.is_sparse)
    return dataclasses.replace(weights, sparse=SparseBlocks(nonzeros))


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest run among those that fit into a few milliseconds; at least one."""
    best, spent = float("inf"), 0.0
    while spent < _SLICE_S:
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return best

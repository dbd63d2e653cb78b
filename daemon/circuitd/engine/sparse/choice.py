"""Which execution a network runs on: a plain value, measured when a model is loaded, and kept.

The dense execution covers everything. The tiles cover what is in float32 on the CPU, the Triton
kernels what is on CUDA; they are taken where one layer is faster on them, and whether a matrix is
then multiplied by its nonzeros is decided for each. A small network is not measured, nor are the
compiled kernels loaded for it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

import torch

from circuitd.engine.cuda import available as cuda
from circuitd.engine.gpt import forward
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.timing import race
from circuitd.engine.weights import Matrices, Weights

#: Tokens of the passes that are timed. Fewer say nothing of a GPU: it waits for the next kernel.
N_TOKENS: Final = 32
N_TOKENS_CUDA: Final = 256
#: A network with fewer weights in a layer has nothing to gain: what is fixed costs more.
_MIN_WEIGHTS: Final = 1 << 16


@dataclass(frozen=True)
class Choice:
    """How to run one network on one machine.

    `is_sparse` says of each layer's c_attn, attn_proj, c_fc and mlp_proj whether its product is
    taken over nonzeros; it is empty where the dense execution is used, and `reason` says why.
    `dense_s` and `sparse_s` are what a layer took for some tokens, where it was measured.
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
    """What keeps this network off the sparse kernels; None when they can run it."""
    if weights.device.type == "cuda":
        return cuda.why_not(weights.device)
    if weights.device.type != "cpu":
        return f"it is on {weights.device} and the kernels are for the CPU and CUDA"
    if weights.dtype != torch.float32:
        return f"it is in {str(weights.dtype).removeprefix('torch.')} and the kernels take float32"
    return None


def choose(weights: Weights) -> Choice:
    """Measure: some hundred milliseconds for the largest published model.

    Whatever the model, it is a few dense and as many sparse passes of `N_TOKENS` tokens through one
    layer, in turns, and a product by each of its matrices: about what the first request would take
    densely; what is quicker than a few milliseconds is repeated for as long. Loading the kernels
    comes on top.
    """
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
    n_tokens = N_TOKENS_CUDA if weights.device.type == "cuda" else N_TOKENS
    tokens = torch.zeros(1, min(n_tokens, one.config.block_size), dtype=torch.int64)
    plan = Plan(logits="none")

    is_sparse = _faster_on_nonzeros(weights, dense, n_tokens)
    if weights.device.type == "cuda":
        from circuitd.engine.cuda.choice import seconds_of_blocks

        dense_s = seconds_of_blocks(one, tokens)
        if not any(map(any, is_sparse)):
            reason = "no matrix is multiplied faster by its nonzeros"
            return Choice(reason=reason, dense_s=dense_s, sparse_s=dense_s)
        sparse_s = seconds_of_blocks(apply(one, Choice(is_sparse[:1])), tokens)
    else:
        other = apply(one, Choice(is_sparse[:1]))
        forward(other, tokens, plan)  # loads the kernels
        dense_s, sparse_s = race(
            lambda: forward(one, tokens, plan), lambda: forward(other, tokens, plan)
        )
    if sparse_s >= dense_s:
        reason = f"sparse takes {sparse_s / dense_s:.1f} times as long"
        return Choice(reason=reason, dense_s=dense_s, sparse_s=sparse_s)
    return Choice(is_sparse, "", dense_s, sparse_s)


def _faster_on_nonzeros(
    weights: Weights, dense: Matrices, n_tokens: int
) -> tuple[tuple[bool, ...], ...]:
    """Of each layer's matrices, whether products of `n_tokens` tokens are faster by nonzeros.

    The kernels are imported where they are wanted: that alone takes seconds.
    """
    if weights.device.type == "cuda":
        from circuitd.engine.cuda.choice import faster_on_nonzeros

        return tuple(tuple(layer) for layer in faster_on_nonzeros(weights, dense, n_tokens))
    from circuitd.engine.sparse.tiles.break_even import break_even

    limits = [break_even(matrix.dense, n_tokens) for matrix in dense]
    return tuple(
        tuple(m.count_nonzero() <= most for m, most in zip(layer.matrices, limits, strict=True))
        for layer in weights.layers
    )


def apply(weights: Weights, choice: Choice) -> Weights:
    """The same weights, running as chosen. Raises ValueError for a choice about another network."""
    is_sparse = choice.is_sparse or ((False,) * 4,) * len(weights.layers)
    if len(is_sparse) != len(weights.layers):
        raise ValueError(
            f"a choice for {len(is_sparse)} layers, the network has {len(weights.layers)}"
        )
    if cuda.why_not(weights.device) is None:
        from circuitd.engine.cuda.choice import on_nonzeros

        return on_nonzeros(weights, is_sparse)
    if not choice.is_sparse:
        return dataclasses.replace(weights, sparse=None)
    from circuitd.engine.sparse.tiles.blocks import SparseBlocks
    from circuitd.engine.sparse.tiles.matrices import SparseWeights

    nonzeros = SparseWeights.of(weights, choice.is_sparse)
    blocks = SparseBlocks(nonzeros)
    layers = tuple(
        dataclasses.replace(
            layer,
            matrices=Matrices(
                *(
                    matrix.multiplied_by(own.product(blocks.threads), keeps_dense=True)
                    for matrix, own in zip(layer.matrices, arrays.matrices, strict=True)
                )
            ),
        )
        for layer, arrays in zip(weights.layers, nonzeros.layers, strict=True)
    )
    return dataclasses.replace(weights, layers=layers, sparse=blocks)

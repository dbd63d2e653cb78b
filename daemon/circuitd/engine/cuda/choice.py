"""Which matrices are multiplied by their nonzeros on CUDA: both ways timed, for each of them.

A product takes little longer than to wait for its end. What is timed is therefore a number of them
at once, of as many tokens as a prompt has.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import torch

from circuitd.engine.cuda.product import CudaProduct
from circuitd.engine.cuda.replay import Replays
from circuitd.engine.gpt import blocks, embed
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.timing import fastest
from circuitd.engine.taps import Taps
from circuitd.engine.weights import Matrices, Weights
from circuitd.engine.window import Window

#: Products between two looks at the clock.
_N_PRODUCTS: Final = 8
#: A matrix that is denser than this is not worth compressing, whatever a short measurement says.
_MAX_DENSITY: Final = 0.5


def faster_on_nonzeros(weights: Weights, dense: Matrices, n_tokens: int) -> list[list[bool]]:
    """For each layer's matrices, whether the product of `n_tokens` tokens is faster by nonzeros.

    `dense` are the first layer's, whose dense products stand for those of all layers.
    """
    device, dtype = weights.device, weights.dtype
    activations = [torch.randn(n_tokens, m.shape[1], device=device, dtype=dtype) for m in dense]
    limits = [_seconds(m, x) for m, x in zip(dense, activations, strict=True)]

    def is_faster(matrix: WeightMatrix, x: torch.Tensor, limit_s: float) -> bool:
        n_out, n_in = matrix.shape
        if matrix.count_nonzero() > _MAX_DENSITY * n_out * n_in:
            return False
        product = CudaProduct(matrix.nonzeros, device, dtype)
        return _seconds(matrix.multiplied_by(product), x) < limit_s

    return [
        [is_faster(*pair) for pair in zip(layer.matrices, activations, limits, strict=True)]
        for layer in weights.layers
    ]


def seconds_of_blocks(weights: Weights, tokens: torch.Tensor) -> float:
    """What the device takes for the blocks of one pass over `tokens` [B, T]."""
    n_rows, n_positions = tokens.shape
    window = Window(n_rows, 0, n_positions, n_positions, weights.device, weights.dtype)
    taps = Taps(weights.config, Plan(), window)
    with torch.inference_mode():
        x = embed(weights, tokens.to(weights.device), start=0)
        return fastest(lambda: blocks(weights, x, taps, 0, cache=None), weights.device)


def on_nonzeros(weights: Weights, is_sparse: tuple[tuple[bool, ...], ...]) -> Weights:
    """The same weights, their chosen matrices multiplied by nonzeros and no longer held dense."""

    def chosen(matrix: WeightMatrix, sparse: bool) -> WeightMatrix:
        if not sparse:
            return matrix.multiplied_by(None)
        product = CudaProduct(matrix.nonzeros, weights.device, weights.dtype)
        return matrix.multiplied_by(product)

    layers = tuple(
        dataclasses.replace(layer, matrices=Matrices(*map(chosen, layer.matrices, choices)))
        for layer, choices in zip(weights.layers, is_sparse, strict=True)
    )
    replays = Replays() if weights.device.type == "cuda" else None
    return dataclasses.replace(weights, layers=layers, sparse=None, replays=replays)


def _seconds(matrix: WeightMatrix, x: torch.Tensor) -> float:
    def multiply() -> None:
        for _ in range(_N_PRODUCTS):
            matrix(x, None)

    with torch.inference_mode():
        return fastest(multiply, x.device)

"""Cut edges of attention: where one matrix holds three projections, and through the pattern."""

from __future__ import annotations

import torch
from torch import Tensor

from circuitd.engine.cuts import EdgeCuts
from circuitd.engine.weights import Layer


def cut_projections(cuts: EdgeCuts, layer: Layer, i: int, h: Tensor, qkv: Tensor) -> Tensor:
    """The projections `qkv` [B, T, 3, H*D] of `h` [B, T, d_in] without the edges cut from it."""
    source, d = f"{i}.attn.act_in", qkv.shape[-1]
    parts = [
        cuts.apply(source, f"{i}.attn.{name}", part, h, layer.matrices.c_attn, first_row=n * d)
        for n, (name, part) in enumerate(zip("qkv", qkv.unbind(2), strict=True))
    ]
    return torch.stack(parts, dim=2)


def cut_values(
    cuts: EdgeCuts, layer: Layer, i: int, pattern: Tensor, v: Tensor, y: Tensor, delta: Tensor
) -> Tensor:
    """The output projection `delta` [B, T, d] of `y` [B, T, H*D] without the edges cut from v.

    What a cut edge carries instead is attended to like any value: by `pattern` [B, H, T, S (+1)],
    the one in use, over `v` [B, H, S, D].
    """
    source, target = f"{i}.attn.v", f"{i}.attn.resid_delta"
    if not cuts.reads(source, target):
        return delta
    B, H, S, D = v.shape
    filled = cuts.filled(source, target, v.transpose(1, 2).reshape(B, S, H * D))
    filled = filled.view(B, S, H, D).transpose(1, 2)
    y_filled = (pattern[..., :S] @ filled).transpose(1, 2).reshape(y.shape)
    return cuts.replace(source, target, delta, y, y_filled, layer.matrices.attn_proj)

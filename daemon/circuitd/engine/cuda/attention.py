"""Causal attention with sinks on CUDA, in one kernel that reads heads where they lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuitd.engine.cuda import kernels


def covers(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel can run: no graph is built, and channels of a head lie side by side."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        return False
    is_dense = all(t.stride(-1) == 1 for t in (q, k, v))
    return is_dense and q.shape[-1] <= 128 and q.dtype != torch.float64


def attend(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None) -> Tensor:
    """Attention [B, H, T, D] of the last T of S positions, sinks [H] taken into account."""
    n_rows, n_head, n_queries, d = q.shape
    out = q.new_empty(n_rows, n_queries, n_head, d)
    keys = 64 if d <= 32 else 32
    queries = min(2 * keys, max(16, 1 << (n_queries - 1).bit_length()))
    n_blocks = -(-n_queries // queries)
    kernels.attend[(n_blocks * n_rows * n_head,)](
        q, k, v, q if sinks is None else sinks, out, d**-0.5 * math.log2(math.e),
        n_head, n_queries, k.shape[2], n_blocks, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        D=d, BLOCK_D=max(16, 1 << (d - 1).bit_length()), QUERIES=queries, KEYS=keys,
        HAS_SINKS=sinks is not None,
    )  # fmt: skip
    return out.transpose(1, 2)

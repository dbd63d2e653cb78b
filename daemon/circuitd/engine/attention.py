"""Causal attention with an optional sink, fused where nobody looks at the pattern.

The sink is one more key per head, with logit `sink_logit` (unscaled) and value zero: it takes up
probability and adds nothing. Both ways of computing have it, so no kernel can drop it silently:
the fused one gets a real extra key of zeros, whose score is the additive mask's last column, and
the kernel for CUDA starts its sums with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine.cuda import available as cuda
from circuitd.engine.precision import wide


class KeyValueCache:
    """Keys and values of the positions seen so far, [B, H, capacity, D] per layer."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        #: Positions already seen; the same for all layers between two passes.
        self.length = 0
        self._stored: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append `k`, `v` [B, H, T, D] of one layer; return all of them so far."""
        if layer not in self._stored:
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            self._stored[layer] = (k.new_empty(shape), v.new_empty(shape))
        keys, values = self._stored[layer]
        stop = self.length + k.shape[2]
        keys[:, :, self.length : stop] = k
        values[:, :, self.length : stop] = v
        return keys[:, :, :stop], values[:, :, :stop]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink_logit: Tensor | None,
    tap_pattern: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Attention output [B, H, T, D] of queries [B, H, T, D] over keys and values [B, H, S, D].

    The queries are the last T of the S positions. `tap_pattern` receives the pattern
    [B, H, T, S (+1 with a sink)] and returns the one to use; None leaves the choice of kernel free.
    """
    if tap_pattern is None:
        return _fused(q, k, v, sink_logit)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    scores = wide(scores) + _causal_bias(q.shape[2], k.shape[2], q.device)
    if sink_logit is not None:
        sink = wide(sink_logit).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    pattern = tap_pattern(scores.softmax(-1).to(q.dtype))  # [B, H, T, S (+1)]
    return pattern[..., : k.shape[2]] @ v


def _fused(q: Tensor, k: Tensor, v: Tensor, sink_logit: Tensor | None) -> Tensor:
    if cuda.why_not(q.device) is None:
        from circuitd.engine.cuda import attention

        if attention.covers(q, k, v):
            return attention.attend(q, k, v, sink_logit)
    n_queries, n_keys = q.shape[2], k.shape[2]
    if sink_logit is None:
        if n_queries == n_keys:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        bias = _causal_bias(n_queries, n_keys, q.device).to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    n_head = sink_logit.shape[0]
    causal = _causal_bias(n_queries, n_keys, q.device).to(q.dtype)
    bias = torch.cat(
        [
            causal.expand(1, n_head, n_queries, n_keys),
            sink_logit.view(1, n_head, 1, 1).expand(1, n_head, n_queries, 1),
        ],
        dim=-1,
    )
    k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _causal_bias(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
    """0 where query t may see key s, else -inf: [n_queries, n_keys], aligned at the end."""
    bias = torch.full((n_queries, n_keys), float("-inf"), device=device)
    return bias.triu_(n_keys - n_queries + 1)

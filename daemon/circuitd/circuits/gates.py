"""Gates: a threshold on a learned number per node, and the slope that stands in for its own.

The gate of node i is H(tau_i): open (1) or closed (0). A step has no useful derivative, so the
backward pass uses that of sigmoid(tau / temperature), as published (FACTS 3).
"""

from __future__ import annotations

import torch
from torch import Tensor


def open_gates(tau: Tensor, open_at_zero: bool = True) -> Tensor:
    """H(tau) as 0.0 and 1.0, [n_nodes]; `open_at_zero` is H(0), which the paper leaves open."""
    return (tau >= 0 if open_at_zero else tau > 0).to(tau.dtype)


def surrogate_slope(tau: Tensor, temperature: float) -> Tensor:
    """The derivative of sigmoid(tau / temperature) by tau, [n_nodes]."""
    s = torch.sigmoid(tau / temperature)
    return s * (1 - s) / temperature

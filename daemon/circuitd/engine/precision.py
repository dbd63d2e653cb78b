"""Precision: sums over many terms are taken in float32 at least, whatever the model's dtype."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """`x` in float32, or as it is when it is float32 or float64 already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()

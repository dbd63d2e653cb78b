"""Row slices: how many rows of a batch make one bounded step.

The size follows from the model alone and not from a clock, so the same request is computed in the
same slices, and to the same bits, every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from circuitd.engine.weights import Weights

#: Floating-point operations of one step: tens of milliseconds on two CPU cores, or on one GPU.
_STEP_FLOPS: Final[dict[str, float]] = {"cpu": 4e9, "cuda": 4e11}


def rows_per_step(weights: Weights, n_positions: int) -> int:
    """How many rows of `n_positions` tokens one step may compute; at least one."""
    n_parameters = weights.nbytes / weights.dtype.itemsize
    flops_per_row = 2 * n_parameters * n_positions
    return max(1, int(_STEP_FLOPS.get(weights.device.type, _STEP_FLOPS["cpu"]) / flops_per_row))


def row_slices(weights: Weights, n_rows: int, n_positions: int) -> Iterator[slice]:
    """`n_rows` rows cut into steps."""
    step = rows_per_step(weights, n_positions)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))

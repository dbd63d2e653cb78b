"""How dense a matrix may be before the dense product is the cheaper one: both timed, here and now.

The sparse product costs by the nonzero and the dense one by the entry, so one measurement of each,
on a made-up pattern, decides for every matrix of that shape.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from circuitd.engine.sparse.rows import Rows
from circuitd.engine.sparse.tiles import kernels as tile_kernels
from circuitd.engine.sparse.timing import fastest
from circuitd.engine.sparse.vectors import LANES

#: Share of nonzeros of the matrix that the sparse product is timed on.
_DENSITY: Final = 0.01
#: A matrix that is denser than this is not worth compressing, whatever a short measurement says.
_MAX_DENSITY: Final = 0.5


def break_even(weight: torch.Tensor, n_tokens: int) -> int:
    """Nonzeros at which both products of a matrix like `weight` cost the same for `n_tokens`."""
    n_out, n_in = weight.shape
    rng = np.random.default_rng(0)
    in_row = max(1, round(_DENSITY * n_in))
    starts = (in_row * np.arange(n_out + 1)).astype(np.int32)
    index = np.uint16 if n_in <= 1 << 16 else np.int32
    columns = rng.integers(0, n_in, n_out * in_row).astype(index)
    values = rng.standard_normal(n_out * in_row, np.float32)
    rows = Rows(np.arange(n_out, dtype=np.int32), starts, columns, values)
    x, out = rng.standard_normal((n_in, LANES), np.float32), np.empty((n_out, LANES), np.float32)
    bias = np.zeros(n_out, np.float32)

    def multiply() -> None:
        tile_kernels.multiply(x, rows, bias, out)

    multiply()  # loads the kernel
    tile_s = fastest(multiply)
    activations = torch.randn(n_tokens, n_in)
    with torch.inference_mode():
        dense_s = fastest(lambda: F.linear(activations, weight))
    # One tile was timed on one thread; the dense product had all of them.
    n_tiles = -(-n_tokens // LANES)
    sparse_s = tile_s * n_tiles / min(torch.get_num_threads(), n_tiles)
    return int(min(_MAX_DENSITY * weight.numel(), len(values) * dense_s / sparse_s))

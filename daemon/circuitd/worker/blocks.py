"""Held tensors read block by block, so that a summary of any size needs memory for one block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from circuit_protocol.tensors import DType, bf16_to_float32

#: Entries per block: 32 MiB as float64.
BLOCK_ENTRIES: Final = 4 << 20


def numbers(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Entries as numbers: BF16 bits widened to float32, the rest as it is."""
    return bf16_to_float32(array) if dtype == "BF16" else array


def flat_blocks(
    array: np.ndarray, dtype: DType, n_entries: int = BLOCK_ENTRIES
) -> Iterator[tuple[int, np.ndarray]]:
    """All entries in C order, as (index of the first, 1-D block of numbers)."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, n_entries):
        yield start, numbers(flat[start : start + n_entries], dtype)


def axis_blocks(
    array: np.ndarray, dtype: DType, axis: int, n_entries: int = BLOCK_ENTRIES
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks along `axis` of the array seen as [outer, n, inner].

    Each is (which outer rows, a block [rows, some of n, inner]); a row may take several blocks.
    """
    outer = int(np.prod(array.shape[:axis], dtype=np.int64))
    n = array.shape[axis]
    inner = int(np.prod(array.shape[axis + 1 :], dtype=np.int64))
    view = array.reshape(outer, n, inner)
    if not view.size:
        return
    along = max(1, min(n, n_entries // inner))
    rows = max(1, n_entries // (n * inner)) if along == n else 1
    for row in range(0, outer, rows):
        for start in range(0, n, along):
            yield (
                slice(row, min(row + rows, outer)),
                numbers(view[row : row + rows, start : start + along], dtype),
            )

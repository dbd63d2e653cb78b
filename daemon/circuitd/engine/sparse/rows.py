"""The rows of a matrix as kernels walk them: those with as many nonzeros one after another.

How many entries the next row has is then known before it is read, and the processor does not have
to guess: with a few nonzeros in a row, guessing costs more than multiplying.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from circuitd.engine.nonzeros import Nonzeros

Array = np.ndarray[Any, Any]


class Rows(NamedTuple):
    """Row order[i] of the matrix has the entries starts[i] to starts[i + 1]."""

    order: Array  # [rows] int32
    starts: Array  # [rows + 1] int32
    columns: Array  # [n] uint16 where that suffices, else int32
    values: Array  # [n] float32

    @property
    def nbytes(self) -> int:
        """Bytes of the four arrays."""
        return sum(part.nbytes for part in self)


def sort_rows(nonzeros: Nonzeros) -> Rows:
    """The rows of `nonzeros` by how many entries they have, in arrays of their own."""
    counts = np.diff(nonzeros.starts)
    order = np.argsort(counts, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts[order])])
    entries = np.arange(starts[-1]) + np.repeat(nonzeros.starts[order] - starts[:-1], counts[order])
    return Rows(
        order.astype(np.int32), starts.astype(np.int32), nonzeros.columns[entries],
        nonzeros.values[entries],
    )  # fmt: skip

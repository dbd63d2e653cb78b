"""Filling and copying within kernels. Numba's own slice assignment checks shapes and brings with it
the code of its error messages: a third of the time that compiling the kernels took.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitd.engine.sparse.jit import jit_exact

Array = np.ndarray[Any, Any]


@jit_exact
def fill_row(to: Array, value: Any) -> None:
    """Write `value` to every element of `to` [n]."""
    for i in range(to.shape[0]):
        to[i] = value


@jit_exact
def fill_rows(to: Array, value: Any) -> None:
    """Write `value` to every element of `to` [m, n]."""
    for i in range(to.shape[0]):
        fill_row(to[i], value)


@jit_exact
def copy_row(values: Array, to: Array) -> None:
    """Write `values` [n] to the first elements of `to`."""
    for i in range(values.shape[0]):
        to[i] = values[i]


@jit_exact
def copy_rows(values: Array, to: Array) -> None:
    """Write `values` [m, n] to `to`, row by row."""
    for i in range(values.shape[0]):
        copy_row(values[i], to[i])

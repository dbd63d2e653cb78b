"""Compiled kernels of the sparse execution: what one half block does to a block of lanes.

A lane is one token. Every activation of a block of lanes is an array [channels, lanes], so that a
weight w from channel j to channel i is one multiply-add of row j to row i: no gathering, whatever
the pattern of the nonzeros, and all else (norms, selection, activation) runs along the lanes too.
Nothing here allocates; all run without the interpreter's lock.

Matrices come as compressed columns (by source channel) for the forward pass and compressed rows (by
target channel) for the backward pass: in both, a closed node costs nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.functions import exp_of_lanes, normal_tail_of_lanes
from circuitd.engine.sparse.jit import jit, jit_reduce
from circuitd.engine.sparse.vectors import LANES, load, splat, store, where

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def rms_norm(x: Array, gain: Array, eps: float, inverse: Array, out: Array) -> None:
    """Write x / rms(x) * gain to `out`; `inverse` [lanes] keeps 1 / rms for the backward pass."""
    width, n_lanes = x.shape
    for lane in range(n_lanes):
        inverse[lane] = _F(0)
    for channel in range(width):
        row = x[channel]
        for lane in range(n_lanes):
            inverse[lane] += row[lane] * row[lane]
    for lane in range(n_lanes):
        inverse[lane] = _F(1) / np.sqrt(inverse[lane] / _F(width) + _F(eps))
    for channel in range(width):
        g, row, to = gain[channel], x[channel], out[channel]
        for lane in range(n_lanes):
            to[lane] = row[lane] * inverse[lane] * g


@jit
def rms_norm_backward(
    x: Array, gain: Array, inverse: Array, grad_out: Array, along: Array, grad_x: Array
) -> None:
    """Add to `grad_x` what `grad_out` [width or more, lanes] says about the norm's input `x`.

    `along` [lanes] is scratch.
    """
    width, n_lanes = x.shape
    for lane in range(n_lanes):
        along[lane] = _F(0)
    for channel in range(width):
        g, row, grad = gain[channel], x[channel], grad_out[channel]
        for lane in range(n_lanes):
            along[lane] += grad[lane] * g * row[lane]
    for lane in range(n_lanes):
        along[lane] *= inverse[lane] * inverse[lane] * inverse[lane] / _F(width)
    for channel in range(width):
        g, row, grad, to = gain[channel], x[channel], grad_out[channel], grad_x[channel]
        for lane in range(n_lanes):
            to[lane] += grad[lane] * g * inverse[lane] - row[lane] * along[lane]


@jit
def gate(x: Array, gates: Array, ablated: Array, out: Array) -> None:
    """Write ablated + gate * (x - ablated) to `out`, row by row; exact for gates of 0 and 1."""
    width, n_lanes = x.shape
    for channel in range(width):
        g, fill, row, to = gates[channel], ablated[channel], x[channel], out[channel]
        if g == _F(1):
            for lane in range(n_lanes):
                to[lane] = row[lane]
        elif g == _F(0):
            for lane in range(n_lanes):
                to[lane] = fill
        else:
            for lane in range(n_lanes):
                to[lane] = fill + g * (row[lane] - fill)


@jit_reduce
def gate_backward(
    x: Array, gates: Array, ablated: Array, grad: Array, selects: bool, grad_gates: Array
) -> None:
    """Add each gate's gradient to `grad_gates`; turn `grad` (by the output) into that by `x`.

    `selects`: `x` has been through `keep_largest`, and what is zero there lets nothing through.
    """
    width, n_lanes = x.shape
    for channel in range(width):
        g, fill, row, here = gates[channel], ablated[channel], x[channel], grad[channel]
        total = _F(0)
        for lane in range(n_lanes):
            total += here[lane] * (row[lane] - fill)
        grad_gates[channel] += total
        if g == _F(0):
            here[:] = _F(0)
        elif selects:
            for lane in range(n_lanes):
                here[lane] = here[lane] * g if row[lane] != _F(0) else _F(0)
        else:
            for lane in range(n_lanes):
                here[lane] *= g


@jit
def multiply(
    x: Array,
    gates: Array,
    start: int,
    columns: Array,
    targets: Array,
    values: Array,
    bias: Array,
    out: Array,
) -> None:
    """Write bias + W x to `out`, over the columns whose gate is not zero; the others are in `bias`.

    `columns[start + j]` is where column j begins in `targets` and `values`.
    """
    n_lanes = x.shape[1]
    for target in range(out.shape[0]):
        b, to = bias[target], out[target]
        for lane in range(n_lanes):
            to[lane] = b
    for source in range(x.shape[0]):
        if gates[source] == _F(0):
            continue
        row = x[source]
        for at in range(columns[start + source], columns[start + source + 1]):
            w, to = values[at], out[targets[at]]
            for lane in range(n_lanes):
                to[lane] += w * row[lane]


@jit
def cut(
    layer: int, matrix: int, cuts: Array, weights: Array, fills: Array, x: Array, out: Array
) -> None:
    """Take from `out` what flows along the cut edges of one matrix, and put their fills instead.

    `cuts` int64 [n, 4]: layer, matrix, source, target; `weights` and `fills` [n].
    """
    for i in range(cuts.shape[0]):
        if cuts[i, 0] == layer and cuts[i, 1] == matrix:
            w, fill, row, to = weights[i], fills[i], x[cuts[i, 2]], out[cuts[i, 3]]
            for lane in range(row.shape[0]):
                to[lane] -= w * (row[lane] - fill)


@jit
def multiply_backward(
    grad_out: Array,
    gates: Array,
    start: int,
    rows: Array,
    sources: Array,
    values: Array,
    grad_x: Array,
) -> None:
    """Add W^T grad_out to `grad_x`, over the rows whose gate is not zero."""
    n_lanes = grad_x.shape[1]
    for target in range(grad_out.shape[0]):
        if gates[target] == _F(0):
            continue
        row = grad_out[target]
        for at in range(rows[start + target], rows[start + target + 1]):
            w, to = values[at], grad_x[sources[at]]
            for lane in range(n_lanes):
                to[lane] += w * row[lane]


@jit
def fold_closed(
    gates: Array,
    ablated: Array,
    start: int,
    columns: Array,
    targets: Array,
    values: Array,
    bias: Array,
    out: Array,
) -> None:
    """Write bias + W x to `out`, x being closed sources' ablated values (one per source)."""
    for target in range(out.shape[0]):
        out[target] = bias[target]
    for source in range(gates.shape[0]):
        if gates[source] == _F(0):
            fill = ablated[source]
            for at in range(columns[start + source], columns[start + source + 1]):
                out[targets[at]] += values[at] * fill


@jit
def activate_with_slope(x: Array, is_gelu: bool, slope: Array) -> None:
    """As `activate`; its derivative comes to `slope`."""
    zero, one, minus_half = splat(_F(0)), splat(_F(1)), splat(_F(-0.5))
    for channel in range(x.shape[0]):
        for lane in range(0, x.shape[1], LANES):
            value = load(x, channel, lane)
            if is_gelu:
                bell = exp_of_lanes(minus_half * value * value)
                tail = normal_tail_of_lanes(value, bell)
                below = where(value > zero, one - tail, tail)
                its_slope = below + value * bell * splat(_F(0.3989422804014327))
                value *= below
            else:
                its_slope = where(value > zero, one, zero)
                value = where(value < zero, zero, value)
            store(value, x, channel, lane)
            store(its_slope, slope, channel, lane)

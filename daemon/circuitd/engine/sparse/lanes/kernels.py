"""Compiled kernels of the sparse execution: what one half block does to a block of lanes.

A lane is one token. Every activation of a block of lanes is an array [channels, lanes], so that a
weight w from channel j to channel i is one multiply-add of row j to row i, whatever the pattern of
the nonzeros, and all else (norms, selection, activation) runs along the lanes too. Lanes fill whole
vectors. Nothing here allocates; all run without the interpreter's lock.

Matrices come as compressed columns (by source channel) and rows (by target channel). Where few
nodes are open, products walk along these, forward by columns and backward by rows, and a closed one
costs nothing; where most are, each result is gathered at once from all it depends on.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.copying import fill_rows
from circuitd.engine.sparse.functions import exp_of_lanes, normal_tail_of_lanes
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.lanes.layout import Network
from circuitd.engine.sparse.vectors import (
    LANES,
    load,
    load_at,
    splat,
    square_root,
    store,
    store_at,
    sum_of,
    where,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32
_NONE: Final = np.zeros(0, np.float32)


@jit
def rms_norm(x: Array, gain: Array, eps: float, inverse: Array, out: Array) -> None:
    """Write x / rms(x) * gain to `out`; `inverse` [lanes] keeps 1 / rms for the backward pass."""
    width, n_lanes = x.shape
    for lane in range(0, n_lanes, LANES):
        squares = splat(_F(0))
        for channel in range(width):
            value = load(x, channel, lane)
            squares += value * value
        mean = squares / splat(_F(width)) + splat(_F(eps))
        store_at(splat(_F(1)) / square_root(mean), inverse, lane)
    for channel in range(width):
        g = splat(gain[channel])
        for lane in range(0, n_lanes, LANES):
            value = load(x, channel, lane) * load_at(inverse, lane)
            store(value * g, out, channel, lane)


@jit
def rms_norm_backward(
    x: Array, gain: Array, inverse: Array, grad_out: Array, along: Array, grad_x: Array
) -> None:
    """Add to `grad_x` what `grad_out` [width or more, lanes] says about the norm's input `x`.

    `along` [lanes] is scratch.
    """
    width, n_lanes = x.shape
    for lane in range(0, n_lanes, LANES):
        total, scale = splat(_F(0)), load_at(inverse, lane)
        for channel in range(width):
            by_normed = load(grad_out, channel, lane) * splat(gain[channel])
            total += by_normed * load(x, channel, lane)
        store_at(total * (scale * scale * scale) / splat(_F(width)), along, lane)
    for channel in range(width):
        g = splat(gain[channel])
        for lane in range(0, n_lanes, LANES):
            by_normed = load(grad_out, channel, lane) * g * load_at(inverse, lane)
            change = by_normed - load(x, channel, lane) * load_at(along, lane)
            store(load(grad_x, channel, lane) + change, grad_x, channel, lane)


@jit
def gate(x: Array, gates: Array, ablated: Array, out: Array) -> None:
    """Write ablated + gate * (x - ablated) to `out`, row by row; exact for gates of 0 and 1."""
    width, n_lanes = x.shape
    for channel in range(width):
        fill, g = splat(ablated[channel]), splat(gates[channel])
        is_open, is_closed = gates[channel] == _F(1), gates[channel] == _F(0)
        for lane in range(0, n_lanes, LANES):
            value = load(x, channel, lane)
            if is_closed:
                value = fill
            elif not is_open:
                value = fill + g * (value - fill)
            store(value, out, channel, lane)


@jit
def gate_backward(
    x: Array, gates: Array, ablated: Array, grad: Array, selects: bool, grad_gates: Array
) -> None:
    """Add each gate's gradient to `grad_gates`; turn `grad` (by the output) into that by `x`.

    `selects`: `x` has been through `keep_largest`, and what is zero there lets nothing through.
    """
    width, n_lanes = x.shape
    zero = splat(_F(0))
    for channel in range(width):
        fill, g, total = splat(ablated[channel]), splat(gates[channel]), zero
        is_closed = gates[channel] == _F(0)
        for lane in range(0, n_lanes, LANES):
            here, value = load(grad, channel, lane), load(x, channel, lane)
            total += here * (value - fill)
            here = zero if is_closed else here * g
            if selects:
                here = where(value != zero, here, zero)
            store(here, grad, channel, lane)
        grad_gates[channel] += sum_of(total)


@jit
def multiply_elements(x: Array, factors: Array) -> None:
    """Multiply `x` by `factors` of its shape, in place."""
    for channel in range(x.shape[0]):
        for lane in range(0, x.shape[1], LANES):
            store(load(x, channel, lane) * load(factors, channel, lane), x, channel, lane)


@jit
def multiply(
    net: Network, layer: int, matrix: int, x: Array, gates: Array, folded: Array, bias: Array,
    out: Array,
) -> None:  # fmt: skip
    """Write bias + W x to `out`, `x` being gated. `folded` is the bias with what closed sources
    add: where few are open, only those are looked at.
    """
    if _are_most_open(gates):
        first = net.row_start[layer, matrix]
        _gather(x, net.rows[first:], net.sources, net.row_values, bias, out)
        return
    for target in range(out.shape[0]):
        b = splat(folded[target])
        for lane in range(0, out.shape[1], LANES):
            store(b, out, target, lane)
    first = net.column_start[layer, matrix]
    _scatter(x, gates, net.columns[first:], net.targets, net.values, out)


@jit
def multiply_backward(
    net: Network, layer: int, matrix: int, grad_out: Array, gates: Array, grad_x: Array
) -> None:
    """Write W^T grad_out to `grad_x`; `grad_out` is zero where a target's gate is."""
    if _are_most_open(gates):
        first = net.column_start[layer, matrix]
        _gather(grad_out, net.columns[first:], net.targets, net.values, _NONE, grad_x)
        return
    fill_rows(grad_x, _F(0))
    first = net.row_start[layer, matrix]
    _scatter(grad_out, gates, net.rows[first:], net.sources, net.row_values, grad_x)


@jit
def _are_most_open(gates: Array) -> bool:
    """Whether reading every source at once is faster than adding up those that are open."""
    n_open = 0
    for i in range(gates.shape[0]):
        n_open += 1 if gates[i] != _F(0) else 0
    return 2 * n_open > gates.shape[0]


@jit
def _gather(
    x: Array, starts: Array, sources: Array, values: Array, bias: Array, out: Array
) -> None:
    """Each row of `out` from its sources, read one after another: entries starts[i] to
    starts[i + 1] are those of row i. An empty `bias` is none.
    """
    n_lanes = x.shape[1]
    by_four = n_lanes - n_lanes % (4 * LANES)
    for target in range(out.shape[0]):
        b = splat(bias[target] if bias.shape[0] > 0 else _F(0))
        begin, end = starts[target], starts[target + 1]
        for lane in range(0, by_four, 4 * LANES):
            y0, y1, y2, y3 = b, b, b, b
            for at in range(begin, end):
                weight, source = splat(values[at]), sources[at]
                y0 += weight * load(x, source, lane)
                y1 += weight * load(x, source, lane + LANES)
                y2 += weight * load(x, source, lane + 2 * LANES)
                y3 += weight * load(x, source, lane + 3 * LANES)
            store(y0, out, target, lane)
            store(y1, out, target, lane + LANES)
            store(y2, out, target, lane + 2 * LANES)
            store(y3, out, target, lane + 3 * LANES)
        for lane in range(by_four, n_lanes, LANES):
            y = b
            for at in range(begin, end):
                y += splat(values[at]) * load(x, sources[at], lane)
            store(y, out, target, lane)


@jit
def _scatter(
    x: Array, gates: Array, starts: Array, targets: Array, values: Array, out: Array
) -> None:
    """Add each row of `x` whose gate is not zero to its targets in `out`."""
    for source in range(x.shape[0]):
        if gates[source] == _F(0):
            continue
        for at in range(starts[source], starts[source + 1]):
            weight, target = splat(values[at]), targets[at]
            for lane in range(0, x.shape[1], LANES):
                flow = weight * load(x, source, lane)
                store(load(out, target, lane) + flow, out, target, lane)


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

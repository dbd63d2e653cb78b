"""Compiled kernels of the general forward pass: what happens to one tile of sixteen tokens.

A tile is [channels, LANES]: its lanes are tokens, whatever row of the batch they come from. The
number of lanes is known when this is compiled, so every loop over them is a few vector
instructions, and a tile of the widest activation stays in the second-level cache. What one lane
gets never depends on the others. Nothing here allocates; all run without the interpreter's lock.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.rows import Rows
from circuitd.engine.sparse.select import Selection, keep_largest
from circuitd.engine.sparse.vectors import LANES, load, splat, square_root, store

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def embed(tokens: Array, positions: Array, wte: Array, wpe: Array, out: Array) -> None:
    """The stream of a tile's tokens: rows of `wte`, plus rows of `wpe` unless it is [0, 0]."""
    adds = wpe.shape[0] > 0
    for lane in range(LANES):
        token, position = tokens[lane], positions[lane]
        for channel in range(out.shape[0]):
            out[channel, lane] = wte[token, channel]
        if adds:
            for channel in range(out.shape[0]):
                out[channel, lane] += wpe[position, channel]


@jit
def rms_scale(x: Array, eps: float, scale: Array) -> None:
    """1 / rms of each lane, into `scale` [1, LANES]."""
    width = x.shape[0]
    squares = _sum_of_squares(x, splat(_F(0)))
    mean = squares / splat(_F(width))
    store(splat(_F(1)) / square_root(mean + splat(_F(eps))), scale, 0, 0)


@jit
def layer_scale(x: Array, eps: float, mean: Array, scale: Array) -> None:
    """Mean and 1 / standard deviation of each lane, into `mean` and `scale` [1, LANES]."""
    width = x.shape[0]
    total = splat(_F(0))
    for channel in range(width):
        total += load(x, channel, 0)
    its_mean = total / splat(_F(width))
    variance = _sum_of_squares(x, its_mean) / splat(_F(width))
    store(its_mean, mean, 0, 0)
    store(splat(_F(1)) / square_root(variance + splat(_F(eps))), scale, 0, 0)


@jit
def _sum_of_squares(x: Array, mean: Any) -> Any:
    """Of what is off the mean. Four sums, since each addition waits for the last."""
    width, zero = x.shape[0], splat(_F(0))
    a, b, c, d = zero, zero, zero, zero
    by_four = width - width % 4
    for channel in range(0, by_four, 4):
        p, q = load(x, channel, 0) - mean, load(x, channel + 1, 0) - mean
        r, s = load(x, channel + 2, 0) - mean, load(x, channel + 3, 0) - mean
        a += p * p
        b += q * q
        c += r * r
        d += s * s
    for channel in range(by_four, width):
        p = load(x, channel, 0) - mean
        a += p * p
    return (a + b) + (c + d)


@jit
def normalise(x: Array, mean: Array, scale: Array, gain: Array, bias: Array, out: Array) -> None:
    """(x - mean) * scale * gain + bias in the first channels of `out`; an empty `bias` is none."""
    has_bias = bias.shape[0] > 0
    its_mean, its_scale = load(mean, 0, 0), load(scale, 0, 0)
    for channel in range(x.shape[0]):
        b = bias[channel] if has_bias else _F(0)
        value = (load(x, channel, 0) - its_mean) * its_scale
        store(value * splat(gain[channel]) + splat(b), out, channel, 0)


@jit
def append_positions(positions: Array, table: Array, out: Array) -> None:
    """Rows of `table` [T, d_pos] into the last channels of `out`, then nothing else changes."""
    n_pos = table.shape[1]
    first = out.shape[0] - n_pos
    for channel in range(n_pos):
        for lane in range(LANES):
            out[first + channel, lane] = table[positions[lane], channel]


@jit
def multiply(x: Array, rows: Rows, bias: Array, out: Array) -> None:
    """Write bias + W x to `out`. By rows, since `out` is then written once; two entries at a time,
    since each addition waits for the last.
    """
    for i in range(rows.order.shape[0]):
        target, at, end = rows.order[i], np.intp(rows.starts[i]), np.intp(rows.starts[i + 1])
        a, b = splat(bias[target]), splat(_F(0))
        while at + 2 <= end:
            a += splat(rows.values[at]) * load(x, rows.columns[at], 0)
            b += splat(rows.values[at + 1]) * load(x, rows.columns[at + 1], 0)
            at += 2
        if at < end:
            a += splat(rows.values[at]) * load(x, rows.columns[at], 0)
        store(a + b, out, target, 0)


@jit
def add(x: Array, delta: Array) -> None:
    """Add `delta` to the stream `x` in place."""
    for channel in range(x.shape[0]):
        store(load(x, channel, 0) + load(delta, channel, 0), x, channel, 0)


@jit
def keep_largest_parts(
    x: Array, k_first: int, k_second: int, k_third: int, room: Selection
) -> None:
    """AbsTopK of each third of the channels (q, k and v), in place."""
    width = x.shape[0] // 3
    keep_largest(x[:width], k_first, room)
    keep_largest(x[width : 2 * width], k_second, room)
    keep_largest(x[2 * width :], k_third, room)

"""Compiled kernels of the general forward pass: what happens to one tile of sixteen tokens.

A tile is [channels, TILE]: its lanes are tokens, whatever row of the batch they come from. The
number of lanes is known when this is compiled, so every loop over them is a few vector
instructions, and a tile of the widest activation stays in the second-level cache. What one lane
gets never depends on the others. Nothing here allocates; all run without the interpreter's lock.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import exp, jit, normal_tail
from circuitd.engine.sparse.select import TILE, keep_largest

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def embed(tokens: Array, positions: Array, wte: Array, wpe: Array, out: Array) -> None:
    """The stream of a tile's tokens: rows of `wte`, plus rows of `wpe` unless it is [0, 0]."""
    adds = wpe.shape[0] > 0
    for lane in range(TILE):
        token, position = tokens[lane], positions[lane]
        for channel in range(out.shape[0]):
            out[channel, lane] = wte[token, channel]
        if adds:
            for channel in range(out.shape[0]):
                out[channel, lane] += wpe[position, channel]


@jit
def rms_scale(x: Array, eps: float, scale: Array) -> None:
    """1 / rms of each lane, into `scale` [TILE]."""
    width = x.shape[0]
    for lane in range(TILE):
        scale[lane] = _F(0)
    by_four = width - width % 4
    for channel in range(0, by_four, 4):
        a, b, c, d = x[channel], x[channel + 1], x[channel + 2], x[channel + 3]
        for lane in range(TILE):
            p, q, r, s = a[lane], b[lane], c[lane], d[lane]
            scale[lane] += (p * p + q * q) + (r * r + s * s)
    for channel in range(by_four, width):
        row = x[channel]
        for lane in range(TILE):
            scale[lane] += row[lane] * row[lane]
    for lane in range(TILE):
        scale[lane] = _F(1) / np.sqrt(scale[lane] / _F(width) + _F(eps))


@jit
def layer_scale(x: Array, eps: float, mean: Array, scale: Array) -> None:
    """Mean and 1 / standard deviation of each lane, into `mean` and `scale` [TILE]."""
    width = x.shape[0]
    for lane in range(TILE):
        mean[lane] = _F(0)
        scale[lane] = _F(0)
    for channel in range(width):
        row = x[channel]
        for lane in range(TILE):
            mean[lane] += row[lane]
    for lane in range(TILE):
        mean[lane] /= _F(width)
    for channel in range(width):
        row = x[channel]
        for lane in range(TILE):
            off = row[lane] - mean[lane]
            scale[lane] += off * off
    for lane in range(TILE):
        scale[lane] = _F(1) / np.sqrt(scale[lane] / _F(width) + _F(eps))


@jit
def normalise(x: Array, mean: Array, scale: Array, gain: Array, bias: Array, out: Array) -> None:
    """(x - mean) * scale * gain + bias in the first channels of `out`; an empty `bias` is none."""
    has_bias = bias.shape[0] > 0
    for channel in range(x.shape[0]):
        g, row, to = gain[channel], x[channel], out[channel]
        b = bias[channel] if has_bias else _F(0)
        for lane in range(TILE):
            to[lane] = (row[lane] - mean[lane]) * scale[lane] * g + b


@jit
def append_positions(positions: Array, table: Array, out: Array) -> None:
    """Rows of `table` [T, d_pos] into the last channels of `out`, then nothing else changes."""
    n_pos = table.shape[1]
    first = out.shape[0] - n_pos
    for channel in range(n_pos):
        for lane in range(TILE):
            out[first + channel, lane] = table[positions[lane], channel]


@jit
def multiply(
    x: Array, starts: Array, columns: Array, values: Array, bias: Array, out: Array
) -> None:
    """Write bias + W x to `out`, W by compressed rows as in `engine.nonzeros`.

    By rows, since `out` is then written once; and several nonzeros at a time, since each look at it
    waits for the last. Unsigned indices are not checked for being negative.
    """
    for target in range(out.shape[0]):
        b, to, at, end = bias[target], out[target], starts[target], starts[target + 1]
        if at + 2 <= end:
            x0, x1 = x[np.uintp(columns[at])], x[np.uintp(columns[at + 1])]
            w0, w1 = values[at], values[at + 1]
            for lane in range(TILE):
                to[lane] = b + (w0 * x0[lane] + w1 * x1[lane])
            at += 2
        else:
            for lane in range(TILE):
                to[lane] = b
        while at + 8 <= end:
            x0, x1 = x[np.uintp(columns[at])], x[np.uintp(columns[at + 1])]
            x2, x3 = x[np.uintp(columns[at + 2])], x[np.uintp(columns[at + 3])]
            x4, x5 = x[np.uintp(columns[at + 4])], x[np.uintp(columns[at + 5])]
            x6, x7 = x[np.uintp(columns[at + 6])], x[np.uintp(columns[at + 7])]
            w0, w1, w2, w3 = values[at], values[at + 1], values[at + 2], values[at + 3]
            w4, w5, w6, w7 = values[at + 4], values[at + 5], values[at + 6], values[at + 7]
            for lane in range(TILE):
                low = (w0 * x0[lane] + w1 * x1[lane]) + (w2 * x2[lane] + w3 * x3[lane])
                high = (w4 * x4[lane] + w5 * x5[lane]) + (w6 * x6[lane] + w7 * x7[lane])
                to[lane] += low + high
            at += 8
        while at + 2 <= end:
            x0, x1 = x[np.uintp(columns[at])], x[np.uintp(columns[at + 1])]
            w0, w1 = values[at], values[at + 1]
            for lane in range(TILE):
                to[lane] += w0 * x0[lane] + w1 * x1[lane]
            at += 2
        if at < end:
            x0, w0 = x[np.uintp(columns[at])], values[at]
            for lane in range(TILE):
                to[lane] += w0 * x0[lane]


@jit
def gelu(x: Array) -> None:
    """Exact GELU in place."""
    for channel in range(x.shape[0]):
        row = x[channel]
        for lane in range(TILE):
            value = row[lane]
            tail = normal_tail(value, exp(_F(-0.5) * value * value))
            row[lane] = value * (_F(1) - tail if value > _F(0) else tail)


@jit
def relu(x: Array) -> None:
    """ReLU in place."""
    for channel in range(x.shape[0]):
        row = x[channel]
        for lane in range(TILE):
            row[lane] = max(row[lane], _F(0))


@jit
def add(x: Array, delta: Array) -> None:
    """Add `delta` to the stream `x` in place."""
    for channel in range(x.shape[0]):
        row, here = x[channel], delta[channel]
        for lane in range(TILE):
            row[lane] += here[lane]


@jit
def keep_largest_parts(
    x: Array, k_first: int, k_second: int, k_third: int, integers: Array, floats: Array
) -> None:
    """AbsTopK of each third of the channels (q, k and v), in place."""
    width = x.shape[0] // 3
    keep_largest(x[:width], k_first, integers, floats)
    keep_largest(x[width : 2 * width], k_second, integers, floats)
    keep_largest(x[2 * width :], k_third, integers, floats)

"""Compiled kernels of the general forward pass: what happens to one tile of sixteen tokens.

A tile is [channels, LANES]: its lanes are tokens, whatever row of the batch they come from. A row
of it is one vector, and a tile of the widest activation stays in the second-level cache. What one
lane gets never depends on the others. Nothing here allocates; all run without the interpreter's
lock.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from circuitd.engine.config import GPTConfig
from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.functions import activate
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.rows import Rows
from circuitd.engine.sparse.select import Selection, keep_largest, make_selection
from circuitd.engine.sparse.tiles.matrices import NormArrays
from circuitd.engine.sparse.vectors import LANES, load, splat, square_root, store

Array = np.ndarray[Any, Any]

_F: Final = np.float32


class Kept(NamedTuple):
    """How many entries AbsTopK keeps at each place; all of them where it does not act."""

    attn_in: int
    attn_q: int
    attn_k: int
    attn_v: int
    attn_out: int
    resid_post_attn: int
    mlp_in: int
    mlp_neuron: int
    mlp_out: int
    resid_post_mlp: int


class Room(NamedTuple):
    """What one tile is computed in, by whoever computes it."""

    attn_in: Array  # [d_in, LANES]
    mlp_in: Array  # likewise
    post_act: Array  # [d_mlp, LANES]
    delta: Array  # [d, LANES]
    mean: Array  # [1, LANES]
    scale: Array  # likewise
    scores: Array  # [keys, LANES]
    selection: Selection


def make_room(config: GPTConfig, n_keys: int) -> Room:
    """`n_keys`: to how many lanes a token attends at most."""
    return Room(
        room(config.d_in, LANES), room(config.d_in, LANES), room(config.d_mlp, LANES),
        room(config.d_model, LANES), room(1, LANES), room(1, LANES), room(n_keys, LANES),
        make_selection(max(config.d_in, config.d_mlp, config.d_attn)),
    )  # fmt: skip


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
def measure(x: Array, norm: NormArrays, mean: Array, scale: Array) -> None:
    """1 / rms of each lane into `scale` [1, LANES]; of a LayerNorm 1 / standard deviation, and the
    mean into `mean`.
    """
    width, its_mean = splat(_F(x.shape[0])), splat(_F(0))
    if not norm.is_rms:
        for channel in range(x.shape[0]):
            its_mean += load(x, channel, 0)
        its_mean = its_mean / width
        store(its_mean, mean, 0, 0)
    squares = _sum_of_squares(x, its_mean) / width
    store(splat(_F(1)) / square_root(squares + splat(_F(norm.eps))), scale, 0, 0)


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
def normalise(
    x: Array,
    positions: Array,
    norm: NormArrays,
    table: Array,
    n_kept: int,
    mean: Array,
    scale: Array,
    selection: Selection,
    out: Array,
) -> None:
    """A half block's input: (x - mean) * scale * gain + bias, then the positional channels, rows of
    `table` [T, d_pos]; of all these AbsTopK.
    """
    has_bias = norm.bias.shape[0] > 0
    its_mean, its_scale = load(mean, 0, 0), load(scale, 0, 0)
    for channel in range(x.shape[0]):
        b = norm.bias[channel] if has_bias else _F(0)
        value = (load(x, channel, 0) - its_mean) * its_scale
        store(value * splat(norm.gain[channel]) + splat(b), out, channel, 0)
    for channel in range(table.shape[1]):
        for lane in range(LANES):
            out[x.shape[0] + channel, lane] = table[positions[lane], channel]
    keep_largest(out, n_kept, selection)


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
def add(x: Array, delta: Array, is_relu: bool, n_kept: int, selection: Selection) -> None:
    """Add `delta` to the stream `x` in place; then its activation, if it has one, and AbsTopK."""
    for channel in range(x.shape[0]):
        store(load(x, channel, 0) + load(delta, channel, 0), x, channel, 0)
    if is_relu:
        activate(x, False)
    keep_largest(x, n_kept, selection)


@jit
def keep_largest_parts(x: Array, kept: Kept, selection: Selection) -> None:
    """AbsTopK of each third of the channels (q, k and v), in place."""
    width = x.shape[0] // 3
    keep_largest(x[:width], kept.attn_q, selection)
    keep_largest(x[width : 2 * width], kept.attn_k, selection)
    keep_largest(x[2 * width :], kept.attn_v, selection)


# ------------------------------------------------------- stretches in which nobody looks at a site


@jit
def _read(
    x: Array,
    positions: Array,
    norm: NormArrays,
    table: Array,
    n_kept: int,
    room: Room,
    out: Array,
) -> None:
    """From the stream to a half block's input."""
    measure(x, norm, room.mean, room.scale)
    normalise(x, positions, norm, table, n_kept, room.mean, room.scale, room.selection, out)


@jit
def read_attention(
    x: Array,
    positions: Array,
    norm: NormArrays,
    table: Array,
    rows: Rows,
    bias: Array,
    kept: Kept,
    room: Room,
    qkv: Array,
) -> None:
    """From the stream to q, k and v."""
    _read(x, positions, norm, table, kept.attn_in, room, room.attn_in)
    multiply(room.attn_in, rows, bias, qkv)
    keep_largest_parts(qkv, kept, room.selection)


@jit
def read_mlp(
    x: Array,
    positions: Array,
    norm: NormArrays,
    table: Array,
    rows: Rows,
    bias: Array,
    is_gelu: bool,
    kept: Kept,
    room: Room,
    post_act: Array,
) -> None:
    """From the stream to the MLP's neurons."""
    _read(x, positions, norm, table, kept.mlp_in, room, room.mlp_in)
    multiply(room.mlp_in, rows, bias, post_act)
    activate(post_act, is_gelu)
    keep_largest(post_act, kept.mlp_neuron, room.selection)


@jit
def write(
    source: Array,
    rows: Rows,
    bias: Array,
    n_kept: int,
    is_relu: bool,
    n_kept_after: int,
    room: Room,
    x: Array,
) -> None:
    """From what a half block has computed to the stream."""
    multiply(source, rows, bias, room.delta)
    keep_largest(room.delta, n_kept, room.selection)
    add(x, room.delta, is_relu, n_kept_after, room.selection)

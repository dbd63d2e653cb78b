"""Causal attention of a tile of queries, sixteen side by side, to the tokens before them.

A tile's keys are those of all tiles from where the first of its rows begins. Scores of a head
[keys, lanes] fit the first-level cache; the softmax runs along keys, so every step is lane by lane.
A sink is one more key with logit `sink` and value zero.

Where a tile of keys holds some that not every query sees (of another row, or of its future), they
are left out by a mask, not weighed by zero: a token's result never depends on them, whatever they
are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.functions import exp_of_lanes
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import (
    LANES,
    lane_numbers,
    larger,
    load,
    load_at,
    splat,
    store,
    where,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32
#: Channels of a head that are held in registers at a time.
_N_HELD: Final = 8
_NOT_SEEN: Final = _F(-3e38)


@jit
def attend(
    qkv: Array, tile: int, starts: Array, d_head: int, sinks: Array, scores: Array, out: Array
) -> None:
    """Attention of the queries of one tile, all heads, into `out` [d_attn, LANES].

    `qkv` [tiles, 3 * d_attn, LANES]; `starts` int32 [LANES]: the first lane of each query's row,
    counted over all tiles. `sinks` [n_head] or empty; `scores` [keys, LANES] is scratch.
    """
    first_tile = starts.min() // LANES
    # From this one on, up to their own, all queries see a tile's keys.
    first_seen = (starts.max() + LANES - 1) // LANES
    n_keys = (tile + 1 - first_tile) * LANES
    for head in range(out.shape[0] // d_head):
        channel = head * d_head
        sink = sinks[head] if sinks.shape[0] > 0 else _NOT_SEEN
        _score(qkv, tile, first_tile, channel, d_head, scores)
        for other in range(first_tile, tile + 1):
            if other < first_seen or other == tile:
                _hide(scores, (other - first_tile) * LANES, other * LANES, tile * LANES, starts)
        shares_of = _softmax(scores, n_keys, sink)
        _weigh(qkv, tile, first_tile, channel, d_head, scores, shares_of, out)


@jit
def _score(
    qkv: Array, tile: int, first_tile: int, channel: int, d_head: int, scores: Array
) -> None:
    """Scores of the queries against the keys of all tiles from `first_tile` to their own."""
    queries, d_attn = qkv[tile], qkv.shape[1] // 3
    scale = splat(_F(1) / np.sqrt(_F(d_head)))
    held = d_head - d_head % _N_HELD
    for c in range(channel, channel + held, _N_HELD):
        q0, q1 = load(queries, c, 0) * scale, load(queries, c + 1, 0) * scale
        q2, q3 = load(queries, c + 2, 0) * scale, load(queries, c + 3, 0) * scale
        q4, q5 = load(queries, c + 4, 0) * scale, load(queries, c + 5, 0) * scale
        q6, q7 = load(queries, c + 6, 0) * scale, load(queries, c + 7, 0) * scale
        for other in range(first_tile, tile + 1):
            keys, row = qkv[other, d_attn + c :], (other - first_tile) * LANES
            for lane in range(LANES):
                a = q0 * splat(keys[0, lane]) + q1 * splat(keys[1, lane])
                b = q2 * splat(keys[2, lane]) + q3 * splat(keys[3, lane])
                a += q4 * splat(keys[4, lane]) + q5 * splat(keys[5, lane])
                b += q6 * splat(keys[6, lane]) + q7 * splat(keys[7, lane])
                before = load(scores, row + lane, 0) if c > channel else splat(_F(0))
                store(before + (a + b), scores, row + lane, 0)
    for c in range(channel + held, channel + d_head):
        query = load(queries, c, 0) * scale
        for other in range(first_tile, tile + 1):
            keys, row = qkv[other, d_attn + c], (other - first_tile) * LANES
            for lane in range(LANES):
                before = load(scores, row + lane, 0) if c > channel else splat(_F(0))
                store(before + query * splat(keys[lane]), scores, row + lane, 0)


@jit
def _hide(scores: Array, row: int, first_key: int, first_query: int, starts: Array) -> None:
    """Mark the scores of a tile of keys that a query does not see: of what comes after it, and of
    other rows.
    """
    own, start = splat(first_query) + lane_numbers(), load_at(starts, 0)
    for lane in range(LANES):
        key = splat(first_key + lane)
        is_seen = (start <= key) & (key <= own)
        store(where(is_seen, load(scores, row + lane, 0), splat(_NOT_SEEN)), scores, row + lane, 0)


@jit
def _softmax(scores: Array, n_keys: int, sink: Any) -> Any:
    """Turn scores into shares, exactly zero where a key is not seen; returns what to multiply them
    by.
    """
    largest = splat(sink)
    for key in range(n_keys):
        largest = larger(load(scores, key, 0), largest)
    total = exp_of_lanes(splat(sink) - largest)
    for key in range(n_keys):
        score = load(scores, key, 0)
        share = exp_of_lanes(score - largest)
        share = where(score == splat(_NOT_SEEN), splat(_F(0)), share)
        total += share
        store(share, scores, key, 0)
    return splat(_F(1)) / total


@jit
def _weigh(
    qkv: Array,
    tile: int,
    first_tile: int,
    channel: int,
    d_head: int,
    shares: Array,
    scale: Any,
    out: Array,
) -> None:
    """Values by their shares, times `scale`."""
    d_attn, zero = qkv.shape[1] // 3, splat(_F(0))
    held = d_head - d_head % _N_HELD
    for c in range(channel, channel + held, _N_HELD):
        y0, y1, y2, y3, y4, y5, y6, y7 = zero, zero, zero, zero, zero, zero, zero, zero
        for other in range(first_tile, tile + 1):
            values, row = qkv[other, 2 * d_attn + c :], (other - first_tile) * LANES
            for lane in range(LANES):
                share = load(shares, row + lane, 0)
                is_seen = share != zero
                y0 = where(is_seen, y0 + share * splat(values[0, lane]), y0)
                y1 = where(is_seen, y1 + share * splat(values[1, lane]), y1)
                y2 = where(is_seen, y2 + share * splat(values[2, lane]), y2)
                y3 = where(is_seen, y3 + share * splat(values[3, lane]), y3)
                y4 = where(is_seen, y4 + share * splat(values[4, lane]), y4)
                y5 = where(is_seen, y5 + share * splat(values[5, lane]), y5)
                y6 = where(is_seen, y6 + share * splat(values[6, lane]), y6)
                y7 = where(is_seen, y7 + share * splat(values[7, lane]), y7)
        store(y0 * scale, out, c, 0)
        store(y1 * scale, out, c + 1, 0)
        store(y2 * scale, out, c + 2, 0)
        store(y3 * scale, out, c + 3, 0)
        store(y4 * scale, out, c + 4, 0)
        store(y5 * scale, out, c + 5, 0)
        store(y6 * scale, out, c + 6, 0)
        store(y7 * scale, out, c + 7, 0)
    for c in range(channel + held, channel + d_head):
        y = zero
        for other in range(first_tile, tile + 1):
            values, row = qkv[other, 2 * d_attn + c], (other - first_tile) * LANES
            for lane in range(LANES):
                share = load(shares, row + lane, 0)
                y = where(share != zero, y + share * splat(values[lane]), y)
        store(y * scale, out, c, 0)

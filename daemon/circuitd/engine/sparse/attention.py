"""Causal attention of a tile of queries, sixteen side by side, to the tokens before them.

A tile's keys are those of all tiles from where the first of its rows begins. Scores of a head
[keys, LANES] fit the first-level cache; the softmax runs along keys, so every step is lane by lane.
A sink is one more key with logit `sink` and value zero.

Where a tile of keys holds some that not every query sees (of another row, or of its future), they
are left out by a mask, not weighed by zero: a token's result never depends on them, whatever they
are.

Queries, keys, values and results are arrays [rows, lanes] that hold tile t's channel c in row
`t * row_step + c` from lane `t * lane_step` on: all tokens side by side, or tile below tile.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

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
    splat_of,
    store,
    where,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32
#: Channels that are held in registers at a time.
N_HELD: Final = 8
#: The score of a key that is not seen; as a sink's logit: there is none.
NOT_SEEN: Final = _F(-3e38)


class Queries(NamedTuple):
    """One tile of queries among those of all tokens, and where their keys are."""

    tile: int
    first_tile: int  # keys begin here
    first_seen: int  # from here on, up to their own, all queries see all keys of a tile
    row_step: int
    lane_step: int


def n_keys_of(longest: int, n_lanes: int) -> int:
    """Rows of scores for sequences of at most `longest` tokens, in `n_lanes` lanes: one may begin
    in the middle of a tile, and end in another's.
    """
    return min(-(-n_lanes // LANES), -(-longest // LANES) + 1) * LANES


@jit
def queries_of(starts: Array, tile: int, row_step: int, lane_step: int) -> Queries:
    """Those of `tile`; `starts` int32 [LANES] is the first lane of each query's row, counted over
    all tiles.
    """
    first, last = starts[0], starts[0]
    for lane in range(1, LANES):
        first, last = min(first, starts[lane]), max(last, starts[lane])
    return Queries(tile, first // LANES, (last + LANES - 1) // LANES, row_step, lane_step)


@jit
def attend(
    queries: Queries,
    starts: Array,
    q: Array,
    k: Array,
    v: Array,
    n_shared: int,
    n_values: int,
    scale: Any,
    sink: Any,
    scores: Array,
    out: Array,
    to_lane: int,
) -> Any:
    """One head's values as a tile of queries sees them, into the first `n_values` rows of `out`
    from `to_lane` on; returns how much of each query's attention is not the sink's.

    Scores are products of the first `n_shared` channels of `q` and `k`, times `scale`.
    """
    inverse, given = shares_of(queries, starts, q, k, n_shared, scale, sink, scores)
    weigh(queries, v, n_values, scores, inverse, out, to_lane)
    return given * inverse


@jit
def shares_of(
    queries: Queries,
    starts: Array,
    q: Array,
    k: Array,
    n_shared: int,
    scale: Any,
    sink: Any,
    scores: Array,
) -> Any:
    """Write what each query gives each key to `scores`, exactly zero where it does not see it; but
    for the first of the two vectors that are returned, by which it is to be multiplied. The other
    is the sum over keys.
    """
    multiply_pairs(queries, q, k, n_shared, scale, scores)
    for other in range(queries.first_tile, queries.tile + 1):
        if other < queries.first_seen or other == queries.tile:
            _hide(queries, other, starts, scores)
    return _exponentials(scores, n_keys(queries), sink)


@jit
def n_keys(queries: Queries) -> int:
    """Rows of scores of one tile."""
    return (queries.tile + 1 - queries.first_tile) * LANES


@jit
def multiply_pairs(
    queries: Queries, q: Array, k: Array, n_shared: int, scale: Any, out: Array
) -> None:
    """Products of each query with each key, summed over channels, into `out` [keys, LANES]."""
    own, its_lane = queries.tile * queries.row_step, queries.tile * queries.lane_step
    factor = splat(scale)
    held = n_shared - n_shared % N_HELD
    for c in range(0, held, N_HELD):
        row = own + c
        q0, q1 = load(q, row, its_lane) * factor, load(q, row + 1, its_lane) * factor
        q2, q3 = load(q, row + 2, its_lane) * factor, load(q, row + 3, its_lane) * factor
        q4, q5 = load(q, row + 4, its_lane) * factor, load(q, row + 5, its_lane) * factor
        q6, q7 = load(q, row + 6, its_lane) * factor, load(q, row + 7, its_lane) * factor
        for other in range(queries.first_tile, queries.tile + 1):
            its, at = other * queries.row_step + c, other * queries.lane_step
            first = (other - queries.first_tile) * LANES
            for lane in range(LANES):
                a = load(out, first + lane, 0) if c > 0 else splat(_F(0))
                a += q0 * splat_of(k, its, at + lane)
                b = q1 * splat_of(k, its + 1, at + lane)
                a += q2 * splat_of(k, its + 2, at + lane)
                b += q3 * splat_of(k, its + 3, at + lane)
                a += q4 * splat_of(k, its + 4, at + lane)
                b += q5 * splat_of(k, its + 5, at + lane)
                a += q6 * splat_of(k, its + 6, at + lane)
                b += q7 * splat_of(k, its + 7, at + lane)
                store(a + b, out, first + lane, 0)
    for c in range(held, n_shared):
        query = load(q, own + c, its_lane) * factor
        for other in range(queries.first_tile, queries.tile + 1):
            its, at = other * queries.row_step + c, other * queries.lane_step
            first = (other - queries.first_tile) * LANES
            for lane in range(LANES):
                before = load(out, first + lane, 0) if c > 0 else splat(_F(0))
                store(before + query * splat_of(k, its, at + lane), out, first + lane, 0)


@jit
def _hide(queries: Queries, other: int, starts: Array, scores: Array) -> None:
    """Mark the scores of a tile of keys that a query does not see: of what comes after it, and of
    other rows.
    """
    own, start = splat(queries.tile * LANES) + lane_numbers(), load_at(starts, 0)
    first = (other - queries.first_tile) * LANES
    for lane in range(LANES):
        key = splat(other * LANES + lane)
        is_seen = (start <= key) & (key <= own)
        store(
            where(is_seen, load(scores, first + lane, 0), splat(NOT_SEEN)), scores, first + lane, 0
        )


@jit
def _exponentials(scores: Array, n: int, sink: Any) -> Any:
    """The softmax but for the division: see `shares_of`."""
    largest = splat(sink)
    for key in range(n):
        largest = larger(load(scores, key, 0), largest)
    given = splat(_F(0))
    for key in range(n):
        score = load(scores, key, 0)
        share = where(score == splat(NOT_SEEN), splat(_F(0)), exp_of_lanes(score - largest))
        given += share
        store(share, scores, key, 0)
    return splat(_F(1)) / (given + exp_of_lanes(splat(sink) - largest)), given


@jit
def weigh(
    queries: Queries,
    v: Array,
    n_values: int,
    shares: Array,
    scale: Any,
    out: Array,
    to_lane: int,
) -> None:
    """Channels of `v` by each query's `shares` [keys, LANES], times `scale`, into the rows of `out`
    from `to_lane` on.
    """
    zero = splat(_F(0))
    held = n_values - n_values % N_HELD
    for c in range(0, held, N_HELD):
        y0, y1, y2, y3, y4, y5, y6, y7 = zero, zero, zero, zero, zero, zero, zero, zero
        for other in range(queries.first_tile, queries.tile + 1):
            its, at = other * queries.row_step + c, other * queries.lane_step
            first = (other - queries.first_tile) * LANES
            for lane in range(LANES):
                share = load(shares, first + lane, 0)
                is_seen = share != zero
                y0 = where(is_seen, y0 + share * splat_of(v, its, at + lane), y0)
                y1 = where(is_seen, y1 + share * splat_of(v, its + 1, at + lane), y1)
                y2 = where(is_seen, y2 + share * splat_of(v, its + 2, at + lane), y2)
                y3 = where(is_seen, y3 + share * splat_of(v, its + 3, at + lane), y3)
                y4 = where(is_seen, y4 + share * splat_of(v, its + 4, at + lane), y4)
                y5 = where(is_seen, y5 + share * splat_of(v, its + 5, at + lane), y5)
                y6 = where(is_seen, y6 + share * splat_of(v, its + 6, at + lane), y6)
                y7 = where(is_seen, y7 + share * splat_of(v, its + 7, at + lane), y7)
        store(y0 * scale, out, c, to_lane)
        store(y1 * scale, out, c + 1, to_lane)
        store(y2 * scale, out, c + 2, to_lane)
        store(y3 * scale, out, c + 3, to_lane)
        store(y4 * scale, out, c + 4, to_lane)
        store(y5 * scale, out, c + 5, to_lane)
        store(y6 * scale, out, c + 6, to_lane)
        store(y7 * scale, out, c + 7, to_lane)
    for c in range(held, n_values):
        y = zero
        for other in range(queries.first_tile, queries.tile + 1):
            its, at = other * queries.row_step + c, other * queries.lane_step
            first = (other - queries.first_tile) * LANES
            for lane in range(LANES):
                share = load(shares, first + lane, 0)
                y = where(share != zero, y + share * splat_of(v, its, at + lane), y)
        store(y * scale, out, c, to_lane)

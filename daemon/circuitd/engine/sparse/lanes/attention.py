"""Attention on a block of lanes that holds whole sequences, all heads, forward and backward."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.attention import (
    N_HELD,
    NOT_SEEN,
    Queries,
    attend,
    multiply_pairs,
    n_keys,
    queries_of,
    shares_of,
    weigh,
)
from circuitd.engine.sparse.copying import fill_rows
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import (
    LANES,
    load,
    splat,
    splat_of,
    store,
    transpose,
    where,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def attend_heads(
    q: Array, k: Array, v: Array, sinks: Array, starts: Array, n_head: int, scores: Array, y: Array
) -> None:
    """Causal attention within each sequence of the block, [d_attn, lanes] in and out.

    `sinks` [n_head], empty without; `starts` int32 [lanes]: where each lane's sequence begins;
    `scores` [keys, LANES] is scratch.
    """
    n_lanes, d_head = q.shape[1], q.shape[0] // n_head
    scale = _F(1) / np.sqrt(_F(d_head))
    for tile in range(n_lanes // LANES):
        lane = tile * LANES
        its = starts[lane : lane + LANES]
        queries = queries_of(its, tile, 0, LANES)
        for head in range(n_head):
            at = head * d_head
            sink = sinks[head] if sinks.shape[0] > 0 else NOT_SEEN
            attend(
                queries, its, q[at:], k[at:], v[at:], d_head, d_head, scale, sink, scores, y[at:],
                lane,
            )  # fmt: skip


@jit
def attend_backward(
    q: Array,
    k: Array,
    v: Array,
    sinks: Array,
    starts: Array,
    n_head: int,
    shares: Array,
    by_scores: Array,
    turned: Array,
    grad_y: Array,
    grad_q: Array,
    grad_k: Array,
    grad_v: Array,
) -> None:
    """Gradients by queries, keys and values; the sink's value is zero, so it takes no part.

    The shares are computed again: keeping those of all heads would cost more memory than time.
    `shares` and `by_scores` [keys, LANES] and `turned` [2 * LANES, LANES] are scratch.
    """
    n_lanes, d_head = q.shape[1], q.shape[0] // n_head
    scale, one = _F(1) / np.sqrt(_F(d_head)), splat(_F(1))
    fill_rows(grad_k, _F(0))
    fill_rows(grad_v, _F(0))
    for tile in range(n_lanes // LANES):
        lane = tile * LANES
        its = starts[lane : lane + LANES]
        queries = queries_of(its, tile, 0, LANES)
        for head in range(n_head):
            at = head * d_head
            sink = sinks[head] if sinks.shape[0] > 0 else NOT_SEEN
            inverse, _ = shares_of(queries, its, q[at:], k[at:], d_head, scale, sink, shares)
            multiply_pairs(queries, grad_y[at:], v[at:], d_head, _F(1), by_scores)
            _through_softmax(queries, shares, by_scores, inverse, scale)
            weigh(queries, k[at:], d_head, by_scores, one, grad_q[at:], lane)
            for other in range(queries.first_tile, tile + 1):
                first = (other - queries.first_tile) * LANES
                transpose(shares, first, 0, turned, 0)
                transpose(by_scores, first, 0, turned, LANES)
                to_lane = other * LANES
                _gather(turned[:LANES], grad_y[at:], lane, d_head, grad_v[at:], to_lane)
                _gather(turned[LANES:], q[at:], lane, d_head, grad_k[at:], to_lane)


@jit
def _through_softmax(
    queries: Queries, shares: Array, by_scores: Array, inverse: Any, scale: Any
) -> None:
    """Make `shares` whole, and of the gradient by them in `by_scores` that by the scores."""
    n, zero = n_keys(queries), splat(_F(0))
    mean = zero
    for key in range(n):
        share = load(shares, key, 0) * inverse
        store(share, shares, key, 0)
        mean = where(share != zero, mean + share * load(by_scores, key, 0), mean)
    factor = splat(scale)
    for key in range(n):
        share = load(shares, key, 0)
        slope = share * (load(by_scores, key, 0) - mean) * factor
        store(where(share != zero, slope, zero), by_scores, key, 0)


@jit
def _gather(weights: Array, x: Array, lane: int, n_channels: int, out: Array, to_lane: int) -> None:
    """Add to sixteen lanes of `out` those of `x` from `lane` on, each times its row of `weights`
    [LANES, LANES].
    """
    held = n_channels - n_channels % N_HELD
    for c in range(0, held, N_HELD):
        y0, y1 = load(out, c, to_lane), load(out, c + 1, to_lane)
        y2, y3 = load(out, c + 2, to_lane), load(out, c + 3, to_lane)
        y4, y5 = load(out, c + 4, to_lane), load(out, c + 5, to_lane)
        y6, y7 = load(out, c + 6, to_lane), load(out, c + 7, to_lane)
        for i in range(LANES):
            weight = load(weights, i, 0)
            y0 += weight * splat_of(x, c, lane + i)
            y1 += weight * splat_of(x, c + 1, lane + i)
            y2 += weight * splat_of(x, c + 2, lane + i)
            y3 += weight * splat_of(x, c + 3, lane + i)
            y4 += weight * splat_of(x, c + 4, lane + i)
            y5 += weight * splat_of(x, c + 5, lane + i)
            y6 += weight * splat_of(x, c + 6, lane + i)
            y7 += weight * splat_of(x, c + 7, lane + i)
        store(y0, out, c, to_lane)
        store(y1, out, c + 1, to_lane)
        store(y2, out, c + 2, to_lane)
        store(y3, out, c + 3, to_lane)
        store(y4, out, c + 4, to_lane)
        store(y5, out, c + 5, to_lane)
        store(y6, out, c + 6, to_lane)
        store(y7, out, c + 7, to_lane)
    for c in range(held, n_channels):
        y = load(out, c, to_lane)
        for i in range(LANES):
            y += load(weights, i, 0) * splat_of(x, c, lane + i)
        store(y, out, c, to_lane)

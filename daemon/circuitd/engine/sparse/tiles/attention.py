"""Causal attention of one sequence and some of its heads, sixteen queries at a time.

Each tile of queries meets only the keys before its end. Scores of a tile against all its keys
[keys, TILE] fit the first-level cache; the softmax runs along keys, so every step is lane by lane.
A sink is one more key with logit `sink` and value zero.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from circuitd.engine.sparse.jit import exp, jit
from circuitd.engine.sparse.select import TILE
from circuitd.engine.sparse.tiles.aligned import room

Array = np.ndarray[Any, Any]

_F: Final = np.float32


class Scratch(NamedTuple):
    """Room for one head at a time; what pads `d_head` or the tokens to whole tiles stays zero."""

    queries: Array  # [d_head padded, TILE]
    keys: Array  # [tokens padded, d_head padded]
    values: Array  # [d_head, tokens padded]
    scores: Array  # [tokens padded, TILE]
    total: Array  # [TILE]
    out: Array  # [d_head, TILE]


def make_scratch(n_tokens: int, d_head: int) -> Scratch:
    """Room for sequences of at most `n_tokens`."""
    n, d = (-(-size // TILE) * TILE for size in (n_tokens, d_head))
    return Scratch(
        room(d, TILE), room(n, d), room(d_head, n), room(n, TILE), room(TILE), room(d_head, TILE)
    )


@jit
def attend_heads(
    qkv: Array,
    first_lane: int,
    n_tokens: int,
    first_head: int,
    stop_head: int,
    d_head: int,
    sinks: Array,
    scratch: Scratch,
    out: Array,
) -> None:
    """Attention of `n_tokens` lanes from `first_lane` on, for heads first_head to stop_head.

    `qkv` [tiles, 3 * d_attn, TILE] and `out` [tiles, d_attn, TILE]; `sinks` [n_head] or empty.
    """
    d_attn = out.shape[1]
    n_tiles = (n_tokens + TILE - 1) // TILE
    scale = _F(1) / np.sqrt(_F(d_head))
    has_sink = sinks.shape[0] > 0
    # A longer sequence may have left its own there, and zero times a NaN is a NaN.
    scratch.keys[n_tokens : n_tiles * TILE] = _F(0)
    scratch.values[:, n_tokens : n_tiles * TILE] = _F(0)
    for head in range(first_head, stop_head):
        first = head * d_head
        key_at, value_at = d_attn + first, 2 * d_attn + first
        sink = sinks[head] if has_sink else _F(0)
        for token in range(n_tokens):
            tile, lane = (first_lane + token) // TILE, (first_lane + token) % TILE
            for channel in range(d_head):
                scratch.keys[token, channel] = qkv[tile, key_at + channel, lane] * scale
                scratch.values[channel, token] = qkv[tile, value_at + channel, lane]
        for number in range(n_tiles):
            start = number * TILE
            n_keys, n_queries = start + TILE, min(TILE, n_tokens - start)
            for lane in range(n_queries):
                at = first_lane + start + lane
                for channel in range(d_head):
                    scratch.queries[channel, lane] = qkv[at // TILE, first + channel, at % TILE]
            _score(scratch.queries, scratch.keys, n_keys, scratch.scores)
            _softmax(scratch.scores, start, n_keys, has_sink, sink, scratch.total)
            _weigh(scratch.scores, scratch.values, n_keys, d_head, scratch.total, scratch.out)
            for lane in range(n_queries):
                at = first_lane + start + lane
                for channel in range(d_head):
                    out[at // TILE, first + channel, at % TILE] = scratch.out[channel, lane]


@jit
def _score(queries: Array, keys: Array, n_keys: int, scores: Array) -> None:
    """Dot products of a tile of queries with each key, into `scores` [keys, TILE]. Sixteen terms
    at a time, since each look at a score waits for the last.
    """
    for first in range(0, queries.shape[0], TILE):
        q = queries[first : first + TILE]
        q0, q1, q2, q3, q4, q5, q6, q7 = q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]
        q8, q9, q10, q11, q12, q13 = q[8], q[9], q[10], q[11], q[12], q[13]
        q14, q15 = q[14], q[15]
        for key in range(n_keys):
            to, k = scores[key], keys[key, first : first + TILE]
            k0, k1, k2, k3, k4, k5, k6, k7 = k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7]
            k8, k9, k10, k11, k12, k13 = k[8], k[9], k[10], k[11], k[12], k[13]
            k14, k15 = k[14], k[15]
            for lane in range(TILE):
                a = (k0 * q0[lane] + k1 * q1[lane]) + (k2 * q2[lane] + k3 * q3[lane])
                b = (k4 * q4[lane] + k5 * q5[lane]) + (k6 * q6[lane] + k7 * q7[lane])
                c = (k8 * q8[lane] + k9 * q9[lane]) + (k10 * q10[lane] + k11 * q11[lane])
                d = (k12 * q12[lane] + k13 * q13[lane]) + (k14 * q14[lane] + k15 * q15[lane])
                before = to[lane] if first > 0 else _F(0)
                to[lane] = before + ((a + b) + (c + d))


@jit
def _softmax(
    scores: Array, first: int, n_keys: int, has_sink: bool, sink: Any, total: Array
) -> None:
    """Turn scores into shares over `total`: query `first + lane` sees keys up to its own."""
    for key in range(first, n_keys):  # the last tile of keys holds the future of some queries
        row = scores[key]
        for lane in range(TILE):
            row[lane] = row[lane] if key <= first + lane else _F(-3e38)
    largest = total
    for lane in range(TILE):
        largest[lane] = sink if has_sink else _F(-3e38)
    for key in range(0, n_keys, 8):
        a, b, c, d = scores[key], scores[key + 1], scores[key + 2], scores[key + 3]
        e, f, g, h = scores[key + 4], scores[key + 5], scores[key + 6], scores[key + 7]
        for lane in range(TILE):
            low = max(max(a[lane], b[lane]), max(c[lane], d[lane]))
            high = max(max(e[lane], f[lane]), max(g[lane], h[lane]))
            largest[lane] = max(largest[lane], max(low, high))
    for key in range(n_keys):
        row = scores[key]
        for lane in range(TILE):
            row[lane] = exp(row[lane] - largest[lane])
    for key in range(first, n_keys):
        row = scores[key]
        for lane in range(TILE):
            row[lane] = row[lane] if key <= first + lane else _F(0)
    for lane in range(TILE):
        total[lane] = exp(sink - largest[lane]) if has_sink else _F(0)
    for key in range(0, n_keys, 8):
        a, b, c, d = scores[key], scores[key + 1], scores[key + 2], scores[key + 3]
        e, f, g, h = scores[key + 4], scores[key + 5], scores[key + 6], scores[key + 7]
        for lane in range(TILE):
            low = (a[lane] + b[lane]) + (c[lane] + d[lane])
            high = (e[lane] + f[lane]) + (g[lane] + h[lane])
            total[lane] += low + high
    for lane in range(TILE):
        total[lane] = _F(1) / total[lane]


@jit
def _weigh(
    scores: Array, values: Array, n_keys: int, d_head: int, total: Array, out: Array
) -> None:
    """Values by their shares, into `out` [d_head, TILE]."""
    for channel in range(d_head):
        to, value = out[channel], values[channel]
        for lane in range(TILE):
            to[lane] = _F(0)
        for key in range(0, n_keys - n_keys % 8, 8):
            v0, v1, v2, v3 = value[key], value[key + 1], value[key + 2], value[key + 3]
            v4, v5, v6, v7 = value[key + 4], value[key + 5], value[key + 6], value[key + 7]
            s0, s1, s2, s3 = scores[key], scores[key + 1], scores[key + 2], scores[key + 3]
            s4, s5, s6, s7 = scores[key + 4], scores[key + 5], scores[key + 6], scores[key + 7]
            for lane in range(TILE):
                low = (v0 * s0[lane] + v1 * s1[lane]) + (v2 * s2[lane] + v3 * s3[lane])
                high = (v4 * s4[lane] + v5 * s5[lane]) + (v6 * s6[lane] + v7 * s7[lane])
                to[lane] += low + high
        for lane in range(TILE):
            to[lane] *= total[lane]

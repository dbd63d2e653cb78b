"""Causal attention of one sequence and some of its heads, sixteen queries at a time.

Each tile of queries meets only the keys before its end. Scores of a tile against all its keys
[keys, TILE] fit the first-level cache; the softmax runs along keys, so every step is lane by lane.
A sink is one more key with logit `sink` and value zero.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import exp, jit
from circuitd.engine.sparse.select import TILE

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def attend_heads(
    qkv: Array,
    first_lane: int,
    n_tokens: int,
    first_head: int,
    stop_head: int,
    d_head: int,
    sinks: Array,
    queries: Array,
    keys: Array,
    values: Array,
    scores: Array,
    out: Array,
) -> None:
    """Attention of `n_tokens` lanes from `first_lane` on, for heads first_head to stop_head.

    `qkv` [tiles, 3 * d_attn, TILE] and `out` [tiles, d_attn, TILE]; `sinks` [n_head] or empty.
    Scratch: `queries` [d_head, TILE], zero where nothing was written; `keys` [n, d_head], `values`
    [d_head, n] and `scores` [n + 1, TILE] for n tokens or more.
    """
    d_attn = out.shape[1]
    n_tiles = (n_tokens + TILE - 1) // TILE
    scale = _F(1) / np.sqrt(_F(d_head))
    has_sink = sinks.shape[0] > 0
    for head in range(first_head, stop_head):
        first = head * d_head
        sink = sinks[head] if has_sink else _F(0)
        for token in range(n_tokens):
            tile, lane = (first_lane + token) // TILE, (first_lane + token) % TILE
            key_at, value_at = d_attn + first, 2 * d_attn + first
            for channel in range(d_head):
                keys[token, channel] = qkv[tile, key_at + channel, lane] * scale
                values[channel, token] = qkv[tile, value_at + channel, lane]
        for number in range(n_tiles):
            start = number * TILE
            n_keys = min(n_tokens, start + TILE)
            for lane in range(n_keys - start):
                at = first_lane + start + lane
                for channel in range(d_head):
                    queries[channel, lane] = qkv[at // TILE, first + channel, at % TILE]
            _score(queries, keys, n_keys, d_head, scores)
            _softmax(scores, start, n_keys, has_sink, sink)
            _weigh(scores, values, n_keys, d_head, queries)
            for lane in range(n_keys - start):
                at = first_lane + start + lane
                for channel in range(d_head):
                    out[at // TILE, first + channel, at % TILE] = queries[channel, lane]


@jit
def _score(queries: Array, keys: Array, n_keys: int, d_head: int, scores: Array) -> None:
    """Dot products of a tile of queries with each key, into `scores` [keys, TILE]."""
    by_eight = d_head - d_head % 8
    for key in range(n_keys):
        to, k = scores[key], keys[key]
        for c in range(0, by_eight, 8):
            q0, q1, q2, q3 = queries[c], queries[c + 1], queries[c + 2], queries[c + 3]
            q4, q5, q6, q7 = queries[c + 4], queries[c + 5], queries[c + 6], queries[c + 7]
            k0, k1, k2, k3 = k[c], k[c + 1], k[c + 2], k[c + 3]
            k4, k5, k6, k7 = k[c + 4], k[c + 5], k[c + 6], k[c + 7]
            if c == 0:
                for lane in range(TILE):
                    low = (k0 * q0[lane] + k1 * q1[lane]) + (k2 * q2[lane] + k3 * q3[lane])
                    high = (k4 * q4[lane] + k5 * q5[lane]) + (k6 * q6[lane] + k7 * q7[lane])
                    to[lane] = low + high
            else:
                for lane in range(TILE):
                    low = (k0 * q0[lane] + k1 * q1[lane]) + (k2 * q2[lane] + k3 * q3[lane])
                    high = (k4 * q4[lane] + k5 * q5[lane]) + (k6 * q6[lane] + k7 * q7[lane])
                    to[lane] += low + high
        if by_eight == 0:
            for lane in range(TILE):
                to[lane] = _F(0)
        for c in range(by_eight, d_head):
            k0, q0 = k[c], queries[c]
            for lane in range(TILE):
                to[lane] += k0 * q0[lane]


@jit
def _softmax(scores: Array, first: int, n_keys: int, has_sink: bool, sink: Any) -> None:
    """Turn scores into shares, in place: query `first + lane` sees keys up to its own position."""
    for key in range(first, n_keys):  # the last tile of keys holds the future of some queries
        row = scores[key]
        for lane in range(TILE):
            row[lane] = row[lane] if key <= first + lane else _F(-3e38)
    largest = scores[n_keys]
    for lane in range(TILE):
        largest[lane] = sink if has_sink else _F(-3e38)
    by_four = n_keys - n_keys % 4
    for key in range(0, by_four, 4):
        a, b, c, d = scores[key], scores[key + 1], scores[key + 2], scores[key + 3]
        for lane in range(TILE):
            most = max(max(a[lane], b[lane]), max(c[lane], d[lane]))
            largest[lane] = max(largest[lane], most)
    for key in range(by_four, n_keys):
        row = scores[key]
        for lane in range(TILE):
            largest[lane] = max(largest[lane], row[lane])
    for key in range(n_keys):
        row = scores[key]
        for lane in range(TILE):
            row[lane] = exp(row[lane] - largest[lane])
    for key in range(first, n_keys):
        row = scores[key]
        for lane in range(TILE):
            row[lane] = row[lane] if key <= first + lane else _F(0)
    total = largest
    for lane in range(TILE):
        total[lane] = exp(sink - largest[lane]) if has_sink else _F(0)
    for key in range(0, by_four, 4):
        a, b, c, d = scores[key], scores[key + 1], scores[key + 2], scores[key + 3]
        for lane in range(TILE):
            total[lane] += (a[lane] + b[lane]) + (c[lane] + d[lane])
    for key in range(by_four, n_keys):
        row = scores[key]
        for lane in range(TILE):
            total[lane] += row[lane]
    for lane in range(TILE):
        total[lane] = _F(1) / total[lane]


@jit
def _weigh(scores: Array, values: Array, n_keys: int, d_head: int, out: Array) -> None:
    """Values by their shares, into `out` [d_head, TILE]; the row after the shares divides them."""
    total = scores[n_keys]
    by_eight = n_keys - n_keys % 8
    for c in range(d_head):
        to, value = out[c], values[c]
        for lane in range(TILE):
            to[lane] = _F(0)
        for key in range(0, by_eight, 8):
            v0, v1, v2, v3 = value[key], value[key + 1], value[key + 2], value[key + 3]
            v4, v5, v6, v7 = value[key + 4], value[key + 5], value[key + 6], value[key + 7]
            s0, s1, s2, s3 = scores[key], scores[key + 1], scores[key + 2], scores[key + 3]
            s4, s5, s6, s7 = scores[key + 4], scores[key + 5], scores[key + 6], scores[key + 7]
            for lane in range(TILE):
                low = (v0 * s0[lane] + v1 * s1[lane]) + (v2 * s2[lane] + v3 * s3[lane])
                high = (v4 * s4[lane] + v5 * s5[lane]) + (v6 * s6[lane] + v7 * s7[lane])
                to[lane] += low + high
        for key in range(by_eight, n_keys):
            v0, s0 = value[key], scores[key]
            for lane in range(TILE):
                to[lane] += v0 * s0[lane]
        for lane in range(TILE):
            to[lane] *= total[lane]

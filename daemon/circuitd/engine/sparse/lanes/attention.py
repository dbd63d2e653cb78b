"""Causal attention on a block of lanes that holds whole sequences, forward and backward.

Scores are kept by distance: what each token gives to the one so many lanes before it. All sequences
of the block are computed at once; where one begins, its tokens' ages end the distances.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.functions import exp
from circuitd.engine.sparse.jit import jit

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def attention_pattern(
    q: Array, k: Array, sink: Any, has_sink: bool, ages: Array, longest: int, out: Array
) -> None:
    """One head's pattern, by distance: out[n, lane] is what a token gives to the one n before it.

    `q`, `k` [d_head, lanes]; `ages` [lanes] is each token's position in its sequence, so distances
    beyond it get 0; `longest` is the longest sequence of the block. A sink is one more key of logit
    `sink` and value zero. `out` [longest + 1 or more, lanes]; its last row is scratch.
    """
    d_head, n_lanes = q.shape
    scale = _F(1) / np.sqrt(_F(d_head))
    largest = out[longest]
    for lane in range(n_lanes):
        largest[lane] = sink if has_sink else _F(-3e38)
    for distance in range(longest):
        scores = out[distance]
        for lane in range(n_lanes):
            scores[lane] = _F(0)
        for channel in range(d_head):
            query, key = q[channel, distance:], k[channel, : n_lanes - distance]
            to = scores[distance:]
            for lane in range(n_lanes - distance):
                to[lane] += query[lane] * key[lane]
        for lane in range(n_lanes):
            seen = ages[lane] >= distance
            scores[lane] = scores[lane] * scale if seen else _F(-3e38)
            largest[lane] = max(largest[lane], scores[lane])
    for distance in range(longest):
        scores = out[distance]
        for lane in range(n_lanes):
            seen = ages[lane] >= distance
            scores[lane] = exp(scores[lane] - largest[lane]) if seen else _F(0)
    total = largest
    for lane in range(n_lanes):
        total[lane] = exp(sink - largest[lane]) if has_sink else _F(0)
    for distance in range(longest):
        scores = out[distance]
        for lane in range(n_lanes):
            total[lane] += scores[lane]
    for distance in range(longest):
        scores = out[distance]
        for lane in range(n_lanes):
            scores[lane] /= total[lane]


@jit
def attend(
    q: Array,
    k: Array,
    v: Array,
    sinks: Array,
    ages: Array,
    longest: int,
    n_head: int,
    pattern: Array,
    y: Array,
) -> None:
    """Causal attention within each sequence of the block, [d_attn, lanes] in and out.

    `sinks` [n_head], empty without; `pattern` [longest + 1, lanes] is scratch.
    """
    n_lanes, d_head = q.shape[1], q.shape[0] // n_head
    y[:] = _F(0)
    for head in range(n_head):
        own = slice(head * d_head, (head + 1) * d_head)
        has_sink = sinks.shape[0] > 0
        sink = sinks[head] if has_sink else _F(0)
        attention_pattern(q[own], k[own], sink, has_sink, ages, longest, pattern)
        for channel in range(head * d_head, (head + 1) * d_head):
            for distance in range(longest):
                share, value = pattern[distance, distance:], v[channel, : n_lanes - distance]
                to = y[channel, distance:]
                for lane in range(n_lanes - distance):
                    to[lane] += share[lane] * value[lane]


@jit
def attend_backward(
    q: Array,
    k: Array,
    v: Array,
    sinks: Array,
    ages: Array,
    longest: int,
    n_head: int,
    pattern: Array,
    by_pattern: Array,
    grad_y: Array,
    grad_q: Array,
    grad_k: Array,
    grad_v: Array,
) -> None:
    """Gradients by queries, keys and values; the sink's value is zero, so it takes no part.

    The pattern is computed again: keeping those of all heads would cost more memory than time.
    `pattern`, `by_pattern` [longest + 1, lanes] are scratch.
    """
    n_lanes, d_head = q.shape[1], q.shape[0] // n_head
    scale = _F(1) / np.sqrt(_F(d_head))
    grad_q[:] = _F(0)
    grad_k[:] = _F(0)
    grad_v[:] = _F(0)
    mean = by_pattern[longest]
    for head in range(n_head):
        own = slice(head * d_head, (head + 1) * d_head)
        has_sink = sinks.shape[0] > 0
        sink = sinks[head] if has_sink else _F(0)
        attention_pattern(q[own], k[own], sink, has_sink, ages, longest, pattern)
        mean[:] = _F(0)
        for distance in range(longest):
            n = n_lanes - distance
            share, slope = pattern[distance, distance:], by_pattern[distance, distance:]
            by_pattern[distance] = _F(0)
            for channel in range(head * d_head, (head + 1) * d_head):
                value, to, g = v[channel, :n], grad_v[channel, :n], grad_y[channel, distance:]
                for lane in range(n):
                    slope[lane] += g[lane] * value[lane]
                    to[lane] += g[lane] * share[lane]
            along = mean[distance:]
            for lane in range(n):
                along[lane] += slope[lane] * share[lane]
        for distance in range(longest):
            n = n_lanes - distance
            share, slope = pattern[distance, distance:], by_pattern[distance, distance:]
            along = mean[distance:]
            for lane in range(n):
                slope[lane] = share[lane] * (slope[lane] - along[lane]) * scale
            for channel in range(head * d_head, (head + 1) * d_head):
                key, query = k[channel, :n], q[channel, distance:]
                to_key, to_query = grad_k[channel, :n], grad_q[channel, distance:]
                for lane in range(n):
                    to_query[lane] += slope[lane] * key[lane]
                for lane in range(n):
                    to_key[lane] += slope[lane] * query[lane]

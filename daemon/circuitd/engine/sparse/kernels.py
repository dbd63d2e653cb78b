"""Compiled kernels of the sparse execution: what one half block does to a block of lanes.

A lane is one token. Every activation of a block of lanes is an array [channels, lanes], so that a
weight w from channel j to channel i is one multiply-add of row j to row i: no gathering, whatever
the pattern of the nonzeros, and all else (norms, selection, activation) runs along the lanes too.
Nothing here allocates; all run without the interpreter's lock.

Matrices come as compressed columns (by source channel) for the forward pass and compressed rows (by
target channel) for the backward pass: in both, a closed node costs nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

Array = np.ndarray[Any, Any]

_SIGN: Final = np.int32(0x7FFFFFFF)
_ONE: Final = np.int32(1)
_F: Final = np.float32
#: Guesses of `keep_largest` before it bisects.
_N_GUESSES: Final = 30
#: The reductions over lanes may be summed in any order; nothing else may be rearranged.
_REDUCES: Final = {"reassoc", "contract"}
_FUSES: Final = {"contract"}

_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FUSES)
_jit_reduce = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_REDUCES)
_inline = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FUSES, inline="always")


@_inline
def exp(x: Any) -> Any:
    """E ** x in float32 to about 2 ulp, for x <= 88; written out, so that it vectorises."""
    x = max(x, _F(-87.0))
    n = np.floor(x * _F(1.4426950408889634) + _F(0.5))
    r = x - n * _F(0.693359375)  # ln 2 in two parts
    r = r - n * _F(-2.12194440e-4)
    p = _F(1.0 / 5040)
    p = p * r + _F(1.0 / 720)
    p = p * r + _F(1.0 / 120)
    p = p * r + _F(1.0 / 24)
    p = p * r + _F(1.0 / 6)
    p = p * r + _F(0.5)
    p = p * r + _F(1.0)
    p = p * r + _F(1.0)
    power = (np.int32(n) + np.int32(127)) << np.int32(23)
    return p * np.int32(power).view(np.float32)


@_jit
def rms_norm(x: Array, gain: Array, eps: float, inverse: Array, out: Array) -> None:
    """Write x / rms(x) * gain to `out`; `inverse` [lanes] keeps 1 / rms for the backward pass."""
    width, n_lanes = x.shape
    for lane in range(n_lanes):
        inverse[lane] = _F(0)
    for channel in range(width):
        row = x[channel]
        for lane in range(n_lanes):
            inverse[lane] += row[lane] * row[lane]
    for lane in range(n_lanes):
        inverse[lane] = _F(1) / np.sqrt(inverse[lane] / _F(width) + _F(eps))
    for channel in range(width):
        g, row, to = gain[channel], x[channel], out[channel]
        for lane in range(n_lanes):
            to[lane] = row[lane] * inverse[lane] * g


@_jit
def rms_norm_backward(
    x: Array, gain: Array, inverse: Array, grad_out: Array, scratch: Array, grad_x: Array
) -> None:
    """Add to `grad_x` what `grad_out` [width or more, lanes] says about the norm's input `x`."""
    width, n_lanes = x.shape
    along = scratch[0]
    for lane in range(n_lanes):
        along[lane] = _F(0)
    for channel in range(width):
        g, row, grad = gain[channel], x[channel], grad_out[channel]
        for lane in range(n_lanes):
            along[lane] += grad[lane] * g * row[lane]
    for lane in range(n_lanes):
        along[lane] *= inverse[lane] * inverse[lane] * inverse[lane] / _F(width)
    for channel in range(width):
        g, row, grad, to = gain[channel], x[channel], grad_out[channel], grad_x[channel]
        for lane in range(n_lanes):
            to[lane] += grad[lane] * g * inverse[lane] - row[lane] * along[lane]


@_jit
def keep_largest(x: Array, k: int, integers: Array, floats: Array) -> None:
    """Zero all but the `k` largest magnitudes of every lane of `x` [width, lanes], in place.

    The k-th largest is found as a threshold: guess, count how many entries reach it, and guess
    again by regula falsi between the counts on either side (Illinois rule: the side that stays
    counts half); 128 lanes need about 14 guesses where bisecting the bit patterns needs 21. After
    `_N_GUESSES` it bisects, which ends whatever the values. Among equal magnitudes the first
    channels stay, as in `engine.topk`. `integers`: int32 [5, lanes], `floats`: [3, lanes].
    """
    width, n_lanes = x.shape
    if k >= width:
        return
    bits = x.view(np.int32)  # without its sign, ordered like the magnitude
    low, high, middle = integers[0], integers[1], integers[2]
    count, at_low = integers[3], integers[4]
    over_low, over_high, last_side = floats[0], floats[1], floats[2]
    total = over_low
    for lane in range(n_lanes):
        high[lane] = 0
        total[lane] = _F(0)
    for channel in range(width):
        row, here = bits[channel], x[channel]
        for lane in range(n_lanes):
            high[lane] = max(high[lane], row[lane] & _SIGN)
            total[lane] += abs(here[lane])
    first_guess = _F(1.4) / _F(width)  # of a quarter kept, about there
    for lane in range(n_lanes):
        top = np.int32(high[lane] + _ONE)
        guess = np.float32(total[lane] * first_guess).view(np.int32)
        low[lane] = 0
        high[lane] = top
        middle[lane] = max(_ONE, min(guess, np.int32(top - _ONE)))
        at_low[lane] = width
        over_low[lane] = _F(width - k) + _F(0.5)
        over_high[lane] = _F(0.5 - k)
        last_side[lane] = _F(1)
    # Invariant: count(>= low) = at_low >= k and count(>= high) < k.
    n_guesses, widest = 0, np.int32(2)
    while widest > 1:
        n_guesses += 1
        for lane in range(n_lanes):
            count[lane] = 0
        for channel in range(width):
            row = bits[channel]
            for lane in range(n_lanes):
                count[lane] += np.int32((row[lane] & _SIGN) >= middle[lane])
        widest = np.int32(0)
        if n_guesses < _N_GUESSES:
            for lane in range(n_lanes):
                here, reached, side = middle[lane], count[lane], last_side[lane]
                enough = reached >= k
                over = _F(reached - np.int32(k)) + _F(0.5)
                stays_low = over_low[lane] * (_F(0.5) if side < _F(0) else _F(1))
                stays_high = over_high[lane] * (_F(0.5) if side > _F(0) else _F(1))
                at_bottom = over if enough else stays_low
                at_top = stays_high if enough else over
                bottom = here if enough else low[lane]
                above = high[lane] if enough else here
                # Exactly k reach it: nothing is left to find in this lane.
                top = np.int32(here + _ONE) if reached == k else above
                last_side[lane] = _F(1) if enough else _F(-1)
                over_low[lane] = at_bottom
                over_high[lane] = at_top
                low[lane] = bottom
                high[lane] = top
                at_low[lane] = reached if enough else at_low[lane]
                widest = max(widest, top - bottom)
                a, b = np.int32(bottom).view(np.float32), np.int32(top).view(np.float32)
                guess = np.float32(a + (b - a) * (at_bottom / (at_bottom - at_top)))
                bounded = min(guess.view(np.int32), np.int32(top - _ONE))
                middle[lane] = max(np.int32(bottom + _ONE), bounded)
        else:
            for lane in range(n_lanes):
                here, reached = middle[lane], count[lane]
                enough = reached >= k
                above = high[lane] if enough else here
                high[lane] = np.int32(here + _ONE) if reached == k else above
                low[lane] = here if enough else low[lane]
                at_low[lane] = reached if enough else at_low[lane]
                widest = max(widest, high[lane] - low[lane])
                middle[lane] = np.int32(low[lane] + ((high[lane] - low[lane]) >> _ONE))
    for channel in range(width):
        row = bits[channel]
        for lane in range(n_lanes):
            row[lane] = row[lane] if (row[lane] & _SIGN) >= low[lane] else np.int32(0)
    for lane in range(n_lanes):
        surplus = at_low[lane] - k if low[lane] > 0 else 0
        channel = width - 1
        while surplus > 0:
            if (bits[channel, lane] & _SIGN) == low[lane]:
                bits[channel, lane] = 0
                surplus -= 1
            channel -= 1


@_jit
def gate(x: Array, gates: Array, ablated: Array, out: Array) -> None:
    """Write ablated + gate * (x - ablated) to `out`, row by row; exact for gates of 0 and 1."""
    width, n_lanes = x.shape
    for channel in range(width):
        g, fill, row, to = gates[channel], ablated[channel], x[channel], out[channel]
        if g == _F(1):
            for lane in range(n_lanes):
                to[lane] = row[lane]
        elif g == _F(0):
            for lane in range(n_lanes):
                to[lane] = fill
        else:
            for lane in range(n_lanes):
                to[lane] = fill + g * (row[lane] - fill)


@_jit_reduce
def gate_backward(
    x: Array, gates: Array, ablated: Array, grad: Array, selects: bool, grad_gates: Array
) -> None:
    """Add each gate's gradient to `grad_gates`; turn `grad` (by the output) into that by `x`.

    `selects`: `x` has been through `keep_largest`, and what is zero there lets nothing through.
    """
    width, n_lanes = x.shape
    for channel in range(width):
        g, fill, row, here = gates[channel], ablated[channel], x[channel], grad[channel]
        total = _F(0)
        for lane in range(n_lanes):
            total += here[lane] * (row[lane] - fill)
        grad_gates[channel] += total
        if g == _F(0):
            here[:] = _F(0)
        elif selects:
            for lane in range(n_lanes):
                here[lane] = here[lane] * g if row[lane] != _F(0) else _F(0)
        else:
            for lane in range(n_lanes):
                here[lane] *= g


@_jit
def multiply(
    x: Array,
    gates: Array,
    start: int,
    columns: Array,
    targets: Array,
    values: Array,
    bias: Array,
    out: Array,
) -> None:
    """Write bias + W x to `out`, over the columns whose gate is not zero; the others are in `bias`.

    `columns[start + j]` is where column j begins in `targets` and `values`.
    """
    n_lanes = x.shape[1]
    for target in range(out.shape[0]):
        b, to = bias[target], out[target]
        for lane in range(n_lanes):
            to[lane] = b
    for source in range(x.shape[0]):
        if gates[source] == _F(0):
            continue
        row = x[source]
        for at in range(columns[start + source], columns[start + source + 1]):
            w, to = values[at], out[targets[at]]
            for lane in range(n_lanes):
                to[lane] += w * row[lane]


@_jit
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


@_jit
def multiply_backward(
    grad_out: Array,
    gates: Array,
    start: int,
    rows: Array,
    sources: Array,
    values: Array,
    grad_x: Array,
) -> None:
    """Add W^T grad_out to `grad_x`, over the rows whose gate is not zero."""
    n_lanes = grad_x.shape[1]
    for target in range(grad_out.shape[0]):
        if gates[target] == _F(0):
            continue
        row = grad_out[target]
        for at in range(rows[start + target], rows[start + target + 1]):
            w, to = values[at], grad_x[sources[at]]
            for lane in range(n_lanes):
                to[lane] += w * row[lane]


@_jit
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


@_jit
def activate(pre: Array, is_gelu: bool, out: Array, slope: Array) -> None:
    """GELU (exact, by the error function) or ReLU of `pre`, and its derivative in `slope`."""
    width, n_lanes = pre.shape
    if not is_gelu:
        for channel in range(width):
            row, to, to_slope = pre[channel], out[channel], slope[channel]
            for lane in range(n_lanes):
                positive = row[lane] > _F(0)
                to[lane] = row[lane] if positive else _F(0)
                to_slope[lane] = _F(1) if positive else _F(0)
        return
    for channel in range(width):
        row, to, to_slope = pre[channel], out[channel], slope[channel]
        for lane in range(n_lanes):
            x = row[lane]
            # Abramowitz and Stegun 7.1.26: the error function to 1.5e-7, from one exponential.
            t = _F(1) / (_F(1) + _F(0.3275911 * 0.7071067811865476) * abs(x))
            bell = exp(_F(-0.5) * x * x)
            p = _F(1.061405429)
            p = p * t + _F(-1.453152027)
            p = p * t + _F(1.421413741)
            p = p * t + _F(-0.284496736)
            p = p * t + _F(0.254829592)
            tail = _F(0.5) * p * t * bell  # the normal distribution below -|x|
            below = _F(1) - tail if x > _F(0) else tail
            to[lane] = x * below
            to_slope[lane] = below + x * bell * _F(0.3989422804014327)


@_jit
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


@_jit
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


@_jit
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

"""AbsTopK on a block of lanes: keep the k largest magnitudes of every lane, zero the rest.

The same choice as `engine.topk`, ties included: among equal magnitudes the first channels stay.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import jit, jit_inline

Array = np.ndarray[Any, Any]

_F: Final = np.float32
#: Lanes of a tile: a cache line, and a vector register of AVX-512.
TILE: Final = 16
_SIGN: Final = np.int32(0x7FFFFFFF)
_ONE: Final = np.int32(1)
_ZERO: Final = np.int32(0)
#: Guesses of `keep_largest` before it bisects.
_N_GUESSES: Final = 30


@jit
def keep_largest(x: Array, k: int, integers: Array, floats: Array) -> None:
    """Zero all but the `k` largest magnitudes of every lane of `x` [width, lanes], in place.

    The k-th largest is found as a threshold: guess, count how many entries reach it, and guess
    again by regula falsi between the counts on either side (Illinois rule: the side that stays
    counts half); 16 lanes need about 12 guesses where bisecting the bit patterns needs 21. After
    `_N_GUESSES` it bisects, which ends whatever the values. Among equal magnitudes the first
    channels stay, as in `engine.topk`. `integers`: int32 [5, lanes], `floats`: [3, lanes].
    """
    width, n_lanes = x.shape
    if k >= width:
        return
    bits = x.view(np.int32)  # without its sign, ordered like the magnitude
    low, high, middle = integers[0], integers[1], integers[2]
    count, at_low = integers[3], integers[4]
    is_tile = n_lanes == TILE  # loops of known length are twice as fast
    if is_tile:
        _bracket_tile(x, k, low, high, middle, at_low, floats)
    else:
        _bracket_lanes(x, k, low, high, middle, at_low, floats)
    # Invariant: count(>= low) = at_low >= k and count(>= high) < k.
    widest, n_guesses = np.int32(2), 0
    while widest > 1:
        if is_tile:
            _count_tile(bits, middle, count)
        else:
            _count_lanes(bits, middle, count)
        n_guesses += 1
        if n_guesses < _N_GUESSES:
            widest = _guess(k, n_lanes, low, high, middle, count, at_low, floats)
        else:
            widest = _halve(k, n_lanes, low, high, middle, count, at_low)
    if is_tile:
        _clear_tile(bits, low)
    else:
        _clear_lanes(bits, low)
    for lane in range(n_lanes):
        surplus = at_low[lane] - k if low[lane] > 0 else 0
        channel = width - 1
        while surplus > 0:
            if (bits[channel, lane] & _SIGN) == low[lane]:
                bits[channel, lane] = 0
                surplus -= 1
            channel -= 1


@jit_inline
def _bracket(
    x: Array,
    n_lanes: int,
    k: int,
    low: Array,
    high: Array,
    middle: Array,
    at_low: Array,
    floats: Array,
) -> None:
    """Begin with everything above zero, and a guess from the mean magnitude."""
    width = x.shape[0]
    bits, total = x.view(np.int32), floats[0]
    for lane in range(n_lanes):
        total[lane] = _F(0)
        high[lane] = _ZERO
    by_four = width - width % 4
    for channel in range(0, by_four, 4):
        a, b, c, d = x[channel], x[channel + 1], x[channel + 2], x[channel + 3]
        e, f, g, h = bits[channel], bits[channel + 1], bits[channel + 2], bits[channel + 3]
        for lane in range(n_lanes):
            total[lane] += (abs(a[lane]) + abs(b[lane])) + (abs(c[lane]) + abs(d[lane]))
            # As integers: not even a NaN is above the bracket.
            most = max(max(e[lane] & _SIGN, f[lane] & _SIGN), max(g[lane] & _SIGN, h[lane] & _SIGN))
            high[lane] = max(high[lane], most)
    for channel in range(by_four, width):
        row, row_bits = x[channel], bits[channel]
        for lane in range(n_lanes):
            total[lane] += abs(row[lane])
            high[lane] = max(high[lane], row_bits[lane] & _SIGN)
    first_guess = _F(1.4) / _F(width)  # of a quarter kept, about there
    over_low, over_high, last_side = floats[0], floats[1], floats[2]
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


@jit_inline
def _count(bits: Array, n_lanes: int, least: Array, count: Array) -> None:
    """How many entries of each lane reach `least`, into `count`."""
    width = bits.shape[0]
    for lane in range(n_lanes):
        count[lane] = _ZERO
    by_eight = width - width % 8
    for channel in range(0, by_eight, 8):  # so that `count` is loaded and stored once for eight
        a, b, c, d = bits[channel], bits[channel + 1], bits[channel + 2], bits[channel + 3]
        e, f, g, h = bits[channel + 4], bits[channel + 5], bits[channel + 6], bits[channel + 7]
        for lane in range(n_lanes):
            t = least[lane]
            some = np.int32((a[lane] & _SIGN) >= t) + np.int32((b[lane] & _SIGN) >= t)
            some += np.int32((c[lane] & _SIGN) >= t) + np.int32((d[lane] & _SIGN) >= t)
            some += np.int32((e[lane] & _SIGN) >= t) + np.int32((f[lane] & _SIGN) >= t)
            some += np.int32((g[lane] & _SIGN) >= t) + np.int32((h[lane] & _SIGN) >= t)
            count[lane] += np.int32(some)
    for channel in range(by_eight, width):
        row = bits[channel]
        for lane in range(n_lanes):
            count[lane] += np.int32((row[lane] & _SIGN) >= least[lane])


@jit_inline
def _clear(bits: Array, n_lanes: int, least: Array) -> None:
    """Zero what does not reach `least`, without a branch, so that it vectorises."""
    for channel in range(bits.shape[0]):
        row = bits[channel]
        for lane in range(n_lanes):
            row[lane] = row[lane] & -np.int32((row[lane] & _SIGN) >= least[lane])


@jit
def _bracket_tile(
    x: Array, k: int, low: Array, high: Array, middle: Array, at_low: Array, floats: Array
) -> None:
    _bracket(x, TILE, k, low, high, middle, at_low, floats)


@jit
def _bracket_lanes(
    x: Array, k: int, low: Array, high: Array, middle: Array, at_low: Array, floats: Array
) -> None:
    _bracket(x, x.shape[1], k, low, high, middle, at_low, floats)


@jit
def _count_tile(bits: Array, least: Array, count: Array) -> None:
    _count(bits, TILE, least, count)


@jit
def _count_lanes(bits: Array, least: Array, count: Array) -> None:
    _count(bits, bits.shape[1], least, count)


@jit
def _clear_tile(bits: Array, least: Array) -> None:
    _clear(bits, TILE, least)


@jit
def _clear_lanes(bits: Array, least: Array) -> None:
    _clear(bits, bits.shape[1], least)


@jit
def _guess(
    k: int,
    n_lanes: int,
    low: Array,
    high: Array,
    middle: Array,
    count: Array,
    at_low: Array,
    floats: Array,
) -> np.int32:
    """Move one side of each lane's bracket to `middle`, guess the next one; the widest bracket."""
    over_low, over_high, last_side = floats[0], floats[1], floats[2]
    widest = _ZERO
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
        widest = max(widest, np.int32(top - bottom))
        a, b = np.int32(bottom).view(np.float32), np.int32(top).view(np.float32)
        guess = np.float32(a + (b - a) * (at_bottom / (at_bottom - at_top)))
        bounded = min(guess.view(np.int32), np.int32(top - _ONE))
        middle[lane] = max(np.int32(bottom + _ONE), bounded)
    return widest


@jit
def _halve(
    k: int, n_lanes: int, low: Array, high: Array, middle: Array, count: Array, at_low: Array
) -> np.int32:
    """Move one side of each lane's bracket to `middle`, then halve it; the widest bracket."""
    widest = _ZERO
    for lane in range(n_lanes):
        here, reached = middle[lane], count[lane]
        enough = reached >= k
        above = high[lane] if enough else here
        high[lane] = np.int32(here + _ONE) if reached == k else above
        low[lane] = here if enough else low[lane]
        at_low[lane] = reached if enough else at_low[lane]
        widest = max(widest, np.int32(high[lane] - low[lane]))
        middle[lane] = np.int32(low[lane] + ((high[lane] - low[lane]) >> _ONE))
    return widest

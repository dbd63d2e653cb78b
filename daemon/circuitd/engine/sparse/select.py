"""AbsTopK on a block of lanes: keep the k largest magnitudes of every lane, zero the rest.

The same choice as `engine.topk`, ties included: among equal magnitudes the first channels stay.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import jit

Array = np.ndarray[Any, Any]

_F: Final = np.float32
_SIGN: Final = np.int32(0x7FFFFFFF)
_ONE: Final = np.int32(1)
#: Guesses of `keep_largest` before it bisects.
_N_GUESSES: Final = 30


@jit
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

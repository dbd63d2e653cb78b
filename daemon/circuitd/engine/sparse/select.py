"""AbsTopK on lanes: keep the k largest magnitudes of every lane, zero the rest.

The same choice as `engine.topk`, ties included: among equal magnitudes the first channels stay.

The bit patterns of magnitudes order like integers, and their upper halves say nearly all: a copy of
these is a quarter of the work to look through, two channels in one lane of a vector. Counting how
many reach a guess narrows the place of the k-th largest until few candidates are left; these are
gathered with all their bits, and among them it is bisected.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import (
    LANES,
    MAGNITUDE,
    any_of,
    bits,
    bits_of,
    floats,
    halves,
    larger,
    load,
    lowest_bit,
    ones,
    splat,
    store,
    store_at,
    to_floats,
    where,
    whole,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32
_UPPER: Final = np.int32(0x7FFF0000)
#: Rows of upper halves that are counted before a count might not fit its own half.
_MOST_ROWS: Final = 1 << 14
#: So many of a lane are few.
_FEW: Final = 16
#: Aiming so far beside the k-th largest, in turns above and below, soon leaves few in between.
_ASIDE: Final = _F(_FEW / 4)
#: Guesses before it bisects: values that lie very unevenly are not worth more.
_N_GUESSES: Final = 12


class Selection(NamedTuple):
    """What the selection of sixteen lanes writes down."""

    halves: Array  # int32 [channels / 2, LANES]: upper halves of two channels' magnitudes
    candidates: Array  # int32 [_FEW, LANES]
    lanes: Array  # int32 [3, LANES]


def make_selection(widest: int) -> Selection:
    """Room for at most `widest` channels."""
    return Selection(
        room((widest + 1) // 2, LANES, dtype=np.int32),
        room(_FEW, LANES, dtype=np.int32),
        room(3, LANES, dtype=np.int32),
    )


@jit
def keep_largest(x: Array, k: int, selection: Selection) -> None:
    """Zero all but the `k` largest magnitudes of every lane of `x` [width, lanes], in place.

    At least sixteen lanes. What is not a number is larger than every number. `selection`
    serves any width up to its own, one call at a time.
    """
    width, n_lanes = x.shape
    if k >= width:
        return
    for lane in range(0, n_lanes, LANES):
        # The last sixteen may overlap those before: what was kept there stays.
        _keep_largest(x, min(lane, n_lanes - LANES), k, selection)


@jit
def _keep_largest(x: Array, lane: int, k: int, selection: Selection) -> None:
    """The sixteen lanes from `lane` on."""
    width, patterns, one = x.shape[0], x.view(np.int32), splat(1)
    low, high, at_low, at_high = _narrow(x, lane, k, selection.halves)
    # Where exactly k reach `low`, nothing is left to find.
    is_open = at_low > splat(k)
    between = where(is_open, at_low - at_high, splat(0))
    n_rows = 0
    if not any_of(between > splat(_FEW)):
        n_rows = _gather(patterns, lane, low, where(is_open, high, low), selection)
    # All bits now. There is no room for the one above the largest that is not a number.
    high = where(high == splat(0x8000), splat(MAGNITUDE), high << splat(16))
    low = low << splat(16)
    high = where(is_open, high, low + one)
    if n_rows > 0:
        low, at_low = _bisect(selection.candidates, n_rows, 0, k, low, high, at_low, at_high)
    elif any_of(is_open):
        low, at_low = _bisect(patterns, width, lane, k, low, high, at_low, splat(0))
    below = low - one
    for channel in range(width):
        value = load(patterns, channel, lane)
        store(value & ones((value & splat(MAGNITUDE)) > below), patterns, channel, lane)
    has_surplus = (at_low > splat(k)) & (low > splat(0))
    if any_of(has_surplus):
        store(low, selection.lanes, 0, 0)
        store(where(has_surplus, at_low - splat(k), splat(0)), selection.lanes, 1, 0)
        _drop_last(patterns, lane, selection.lanes)


@jit
def _narrow(x: Array, lane: int, k: int, upper: Array) -> Any:
    """Bounds of the upper half of each k-th largest magnitude, and how many entries reach them:
    at least k reach `low` and fewer `high`. Writes the upper halves to `upper`.

    Guesses by regula falsi between the counts at both bounds (Illinois rule: a bound that stays
    counts half), the first one from the mean magnitude; aims in turns above and below the k-th, so
    that both bounds come near. After `_N_GUESSES` it bisects.
    """
    width = x.shape[0]
    n_rows, wanted, one, half = (width + 1) // 2, splat(k), splat(1), splat(_F(0.5))
    total, most = _take_upper(x, lane, upper)
    low, high, at_low, at_high = splat(0), most + one, splat(width), splat(0)
    over_low, over_high = to_floats(at_low - wanted) + half, to_floats(at_high - wanted) + half
    side = splat(0)
    guess = bits(total * splat(_F(1.4) / _F(width))) >> splat(16)  # of a quarter kept, about there
    n_guesses = 0
    while True:
        middle = larger(low + one, where(guess < high, guess, high - one))
        count = _count_upper(upper, n_rows, middle - one)
        n_guesses += 1
        is_enough = count >= wanted
        over = to_floats(count - wanted) + half
        weight_low = where(side < splat(0), half, splat(_F(1)))
        weight_high = where(side > splat(0), half, splat(_F(1)))
        over_low = where(is_enough, over, over_low * weight_low)
        over_high = where(is_enough, over_high * weight_high, over)
        side = where(is_enough, one, splat(-1))
        low, at_low = where(is_enough, middle, low), where(is_enough, count, at_low)
        high, at_high = where(is_enough, high, middle), where(is_enough, at_high, count)
        is_wide = (high - low > one) & (at_low - at_high > splat(_FEW))
        if not any_of(is_wide & (at_low > wanted)):
            return low, high, at_low, at_high
        if n_guesses < _N_GUESSES:
            aside = where(is_enough, splat(-_ASIDE), splat(_ASIDE))
            aside = larger(over_high * half, where(aside < over_low * half, aside, over_low * half))
            a, b = floats(low << splat(16)), floats(high << splat(16))
            guess = bits(a + (b - a) * ((over_low - aside) / (over_low - over_high))) >> splat(16)
        else:
            guess = low + ((high - low) >> one)


@jit
def _take_upper(x: Array, lane: int, upper: Array) -> Any:
    """Write the upper halves of all magnitudes; the sum of the magnitudes, and the largest half.

    A last channel without a pair has zeros beside it, which reach no guess.
    """
    patterns, width = x.view(np.int32), x.shape[0]
    total, most, magnitude = splat(_F(0)), halves(splat(0)), splat(MAGNITUDE)
    for row in range(width // 2):
        a = load(patterns, 2 * row, lane) & magnitude
        b = load(patterns, 2 * row + 1, lane) & magnitude
        both = (a >> splat(16)) | (b & splat(_UPPER))
        store(both, upper, row, 0)
        total += floats(a) + floats(b)
        most = larger(most, halves(both))
    if width % 2 == 1:
        a = load(patterns, width - 1, lane) & magnitude
        store(a >> splat(16), upper, width // 2, 0)
        total += floats(a)
        most = larger(most, halves(a >> splat(16)))
    first, second = _apart(most)
    return total, larger(first, second)


@jit
def _apart(both: Any) -> Any:
    """The low and the high half of each lane's integer, as integers."""
    return (whole(both) << splat(16)) >> splat(16), whole(both) >> splat(16)


@jit
def _twice(x: Any) -> Any:
    """Integers from -1 to 2 ** 15 - 1 in both halves."""
    return halves(x | (x << splat(16)))


@jit
def _count_upper(upper: Array, n_rows: int, below: Any) -> Any:
    """How many upper halves of each lane are more than `below`."""
    total, less = splat(0), _twice(below)
    for first in range(0, n_rows, _MOST_ROWS):
        count = halves(splat(0))
        for row in range(first, min(first + _MOST_ROWS, n_rows)):
            count -= ones(halves(load(upper, row, 0)) > less)
        a, b = _apart(count)
        total += a + b
    return total


@jit
def _gather(patterns: Array, lane: int, low: Any, high: Any, selection: Selection) -> int:
    """All bits of the magnitudes whose upper half is at least `low` and below `high`, each lane's
    one below the other; how many rows that makes.
    """
    width, number = patterns.shape[0], selection.lanes[2]
    store_at(splat(0), number, 0)
    for row in range(_FEW):
        store(splat(0), selection.candidates, row, 0)
    below, most = _twice(low - splat(1)), _twice(high - splat(1))
    for row in range((width + 1) // 2):
        upper = halves(load(selection.halves, row, 0))
        found = bits_of((upper > below) & (upper <= most))
        while found != 0:
            place = lowest_bit(found)
            found &= found - np.uint64(1)
            channel, its_lane = 2 * row + (place & 1), place >> 1
            if channel < width:
                value = patterns[channel, lane + its_lane] & MAGNITUDE
                selection.candidates[number[its_lane], its_lane] = value
                number[its_lane] += 1
    n_rows = 0
    for its_lane in range(LANES):
        n_rows = max(n_rows, number[its_lane])
    return n_rows


@jit
def _bisect(
    values: Array,
    n_rows: int,
    lane: int,
    k: int,
    low: Any,
    high: Any,
    at_low: Any,
    beyond: Any,
) -> Any:
    """The k-th largest magnitude of each lane and how many reach it, between `low` and `high`.

    Counts in `values`; `beyond` entries that are not there reach every guess.
    """
    wanted, one, magnitude = splat(k), splat(1), splat(MAGNITUDE)
    while any_of(high - low > one):
        # Few entries are smaller than every number but zero; where it is among them, it is zero.
        middle = where(low == splat(0), one, low + ((high - low) >> one))
        below, count = middle - one, beyond
        for row in range(n_rows):
            value = load(values, row, lane)
            count -= ones((value & magnitude) > below)
        is_enough = count >= wanted
        low, at_low = where(is_enough, middle, low), where(is_enough, count, at_low)
        high = where(is_enough, where(count == wanted, middle + one, high), middle)
    return low, at_low


@jit
def _drop_last(patterns: Array, lane: int, of_lanes: Array) -> None:
    """Zero the last entries of magnitude of_lanes[0], of_lanes[1] of them in each lane."""
    for i in range(LANES):
        least, surplus = of_lanes[0, i], of_lanes[1, i]
        channel = patterns.shape[0] - 1
        while surplus > 0 and channel >= 0:
            # The largest pattern of all counts as the one below it: see `high`.
            magnitude = min(patterns[channel, lane + i] & MAGNITUDE, MAGNITUDE - np.int32(1))
            if magnitude == least:
                patterns[channel, lane + i] = 0
                surplus -= 1
            channel -= 1

"""AbsTopK among few entries that vary and many that do not: order statistics instead of a search.

Let u of the varying entries beat a candidate. It stays among the k largest of all if and only if it
is no worse than the (k - u)-th largest of the entries that do not vary. As u is at most the number
of varying entries, a *window* of that many order statistics, plus one, decides every case, and a
candidate costs one count over what varies and one look-up.

Entries are compared by *keys*: the bits of the magnitude (ordered like the magnitude, as it is not
negative), then the channel, lower first. So equal magnitudes are decided as `engine.topk` decides
them, by the lowest channel, and exactly k entries stay.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import MAGNITUDE

Array = np.ndarray[Any, Any]

#: Subtracted from, so that of equal magnitudes the lowest channel has the largest key.
LAST_CHANNEL: Final = 0x7FFFFFFF
#: So many entries are sorted rather than told apart by counting.
_FEW: Final = 16
#: Beaten by every key, and by none.
LOWEST: Final = np.int64(-1)
HIGHEST: Final = np.int64(2**63 - 1)


def windows_of(values: Array, k: int, n_varying: int) -> Array:
    """Windows int64 [n, n_varying + 1] of each row of `values` float32 [n, width]: at u the key of
    the (k - u)-th largest. What varies must be 0 in `values`: then it is behind all else, and where
    it is as large as another entry both are 0 and nothing is lost.

    `HIGHEST` where u varying entries leave no room, `LOWEST` where there is room for all.
    """
    width = values.shape[-1]
    window = np.empty((len(values), n_varying + 1), np.int64)
    ranks = k - np.arange(n_varying + 1)
    window[:, ranks < 1] = HIGHEST
    window[:, ranks > width] = LOWEST
    highest, lowest = max(1, k - n_varying), min(k, width)
    if highest <= lowest:
        bits = np.ascontiguousarray(values).view(np.int32)
        _collect(bits, highest, lowest, window[:, k - lowest : k - highest + 1])
    return window


@jit
def _collect(bits: Array, highest: int, lowest: int, window: Array) -> None:
    """Write the keys of ranks `highest` to `lowest` of each row to `window`, in falling rank.

    Bounds around these ranks are found by bisection, in some twenty counts; what lies between them
    is sorted.
    """
    width, n_ranks = bits.shape[1], window.shape[1]
    row, keys = np.empty(width, np.int32), np.empty(width, np.int64)
    for number in range(bits.shape[0]):
        largest = np.int32(0)
        for channel in range(width):
            row[channel] = bits[number, channel] & MAGNITUDE
            largest = max(largest, row[channel])
        bottom, _ = _bounds(row, lowest, largest)
        _, top = _bounds(row, highest, largest)
        larger, n = _count(row, top), 0
        for channel in range(width):  # without a branch: which entries are between is a coin toss
            here = row[channel]
            keys[n] = (np.int64(here) << 32) | (LAST_CHANNEL - channel)
            n += np.int64(bottom <= here) & np.int64(here < top)
        keys[:n].sort()
        for rank in range(n_ranks):
            window[number, n_ranks - 1 - rank] = keys[n - (highest + rank - larger)]


@jit
def _bounds(row: Array, rank: int, largest: Any) -> tuple[Any, Any]:
    """Bits between which the `rank`-th largest of `row` is, few others with it: at least `rank`
    entries reach the first, fewer the second.
    """
    low, high = np.int32(0), np.int32(largest + np.int32(1))
    at_low, at_high = row.shape[0], 0
    while high - low > 1 and at_low - at_high > _FEW:
        middle = np.int32(low + ((high - low) >> np.int32(1)))
        reached = _count(row, middle)
        if reached >= rank:
            low, at_low = middle, reached
        else:
            high, at_high = middle, reached
    return low, high


@jit
def _count(row: Array, least: Any) -> Any:
    n = np.int32(0)
    for channel in range(row.shape[0]):
        n += np.int32(row[channel] >= least)
    return n

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

Array = np.ndarray[Any, Any]

#: Subtracted from, so that of equal magnitudes the lowest channel has the largest key.
LAST_CHANNEL: Final = 0x7FFFFFFF
#: Beaten by every key, and by none.
LOWEST: Final = np.int64(-1)
HIGHEST: Final = np.int64(2**63 - 1)


def keys_of(values: Array, channels: Array) -> Array:
    """Keys int64 [..., n] of `values` float32 [..., n] in `channels` [n]."""
    bits = np.abs(values).view(np.int32).astype(np.int64)
    bits <<= 32
    bits |= LAST_CHANNEL - channels.astype(np.int64)
    return bits


def windows_of(keys: Array, k: int, n_varying: int) -> Array:
    """Windows int64 [..., n_varying + 1]: at u the (k - u)-th largest of `keys` [..., n].

    `HIGHEST` where u varying entries leave no room, `LOWEST` where there is room for all. `keys`
    are rearranged.
    """
    n = keys.shape[-1]
    ranks = k - np.arange(n_varying + 1)
    window = np.empty((*keys.shape[:-1], n_varying + 1), np.int64)
    window[..., ranks < 1] = HIGHEST
    window[..., ranks > n] = LOWEST
    there = np.flatnonzero((ranks >= 1) & (ranks <= n))
    if len(there):
        from_end = n - ranks[there]  # ascending, and so consecutive
        low, high = int(from_end[0]), int(from_end[-1])
        keys.partition([low, high] if high > low else low, axis=-1)
        keys[..., low : high + 1].sort(axis=-1)
        window[..., there] = keys[..., low : high + 1]
    return window

"""Exact quantiles of a tensor too large to sort: a radix selection over blocks.

Every number is mapped to an unsigned key of the same order. Each pass over the tensor counts the
next 16 bits of the keys that still can be one of the wanted order statistics, so float32 takes two
passes and float64 four, and memory is a few histograms. NaN entries are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

import numpy as np

_DIGIT_BITS: Final = 16
_N_DIGITS: Final = 1 << _DIGIT_BITS

#: Memory for one order statistic: its histogram. A quantile is interpolated between two.
STATISTIC_NBYTES: Final = 8 * _N_DIGITS

Blocks = Callable[[], Iterator[np.ndarray]]


def quantiles(
    blocks: Blocks, dtype: np.dtype, asked: Sequence[float]
) -> Generator[None, None, np.ndarray]:
    """Quantiles of all entries, float64 [len(asked)], interpolated like numpy's default.

    `blocks()` begins another pass over 1-D blocks of `dtype`. Yields after every block; NaN for a
    tensor without numbers.
    """
    n_bits = dtype.itemsize * 8
    n = 0
    for block in blocks():
        n += _valid(block).size
        yield
    if n == 0:
        return np.full(len(asked), np.nan)
    at = [q * (n - 1) for q in asked]
    ranks = sorted({rank for x in at for rank in (int(np.floor(x)), int(np.ceil(x)))})
    #: For each rank: the key bits known so far, and its rank among the keys that begin with them.
    prefixes = dict.fromkeys(ranks, 0)
    within = {rank: rank for rank in ranks}
    known_bits = 0
    while known_bits < n_bits:
        digit_bits = min(_DIGIT_BITS, n_bits - known_bits)
        shift = n_bits - known_bits - digit_bits
        counts = {prefix: np.zeros(_N_DIGITS, np.int64) for prefix in set(prefixes.values())}
        for block in blocks():
            keys = _keys(_valid(block)).astype(np.uint64)
            high = keys >> np.uint64(shift + digit_bits) if known_bits else np.zeros_like(keys)
            digits = (keys >> np.uint64(shift)) & np.uint64((1 << digit_bits) - 1)
            for prefix, count in counts.items():
                chosen = digits[high == prefix] if known_bits else digits
                count += np.bincount(chosen.astype(np.int64), minlength=_N_DIGITS)
            yield
        for rank in ranks:
            below = np.cumsum(counts[prefixes[rank]])
            digit = int(np.searchsorted(below, within[rank], side="right"))
            within[rank] -= int(below[digit - 1]) if digit else 0
            prefixes[rank] = (prefixes[rank] << digit_bits) | digit
        known_bits += digit_bits
    found = _values(np.array([prefixes[rank] for rank in ranks], dtype=np.uint64), dtype)
    return np.interp(at, ranks, found)


def _valid(block: np.ndarray) -> np.ndarray:
    return block[~np.isnan(block)] if block.dtype.kind == "f" else block


def _keys(block: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of the numbers."""
    unsigned = np.dtype(f"u{block.dtype.itemsize}")
    bits = np.ascontiguousarray(block).view(unsigned)
    top = unsigned.type(1 << (unsigned.itemsize * 8 - 1))
    match block.dtype.kind:
        case "f":  # negative floats order backwards: flip all their bits, else the sign alone
            return np.where(bits & top, ~bits, bits | top)
        case "i":
            return bits ^ top
        case _:
            return bits


def _values(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The numbers of such keys, as float64."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    bits = keys.astype(unsigned)
    top = unsigned.type(1 << (unsigned.itemsize * 8 - 1))
    match dtype.kind:
        case "f":
            bits = np.where(bits & top, bits ^ top, ~bits)
        case "i":
            bits = bits ^ top
        case _:
            pass
    return bits.view(dtype).astype(np.float64)

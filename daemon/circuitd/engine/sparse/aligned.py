"""Arrays that begin at a cache line, so that no row of a tile lies across two.

NumPy aligns to sixteen bytes: each row of sixteen floats would then cost two lines instead of one.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

_LINE_NBYTES: Final = 64


def room(*shape: int, dtype: type[np.generic] = np.float32) -> Array:
    """An array of zeros."""
    size = np.dtype(dtype).itemsize
    n = math.prod(shape)
    raw = np.zeros(n + _LINE_NBYTES // size, dtype)
    skip = -raw.ctypes.data % _LINE_NBYTES // size
    return raw[skip : skip + n].reshape(shape)

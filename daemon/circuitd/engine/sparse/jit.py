"""How the kernels of the sparse execution are compiled, and the exponential they share.

Kernels run without the interpreter's lock and are kept on disk between processes. Sums over lanes
may be taken in any order where a kernel says so (`jit_reduce`); nothing else may be rearranged.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

_F: Final = np.float32
_REDUCES: Final = {"reassoc", "contract"}
_FUSES: Final = {"contract"}

jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FUSES)
jit_reduce = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_REDUCES)
jit_inline = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath=_FUSES, inline="always"
)


@jit_inline
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

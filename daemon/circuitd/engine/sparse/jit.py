"""How the kernels of the sparse execution are compiled, and the two functions they share.

Kernels run without the interpreter's lock and are kept on disk between processes. Sums over lanes
may be taken in any order where a kernel says so (`jit_reduce`); nothing else may be rearranged, and
`jit_exact` does not even fuse products into sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np

_F: Final = np.float32
_REDUCES: Final = {"reassoc", "contract"}
_FUSES: Final = {"contract"}


def _sources() -> str:
    """A digest of all files with anything that is compiled here, or that is given to it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if b"@jit" in source or b"NamedTuple" in source:
            digest.update(source)
    return digest.hexdigest()


#: Numba would compile again only what stands in a file that has changed, not what calls it.
_STAMP: Final = _sources()


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's decorator; what is kept on disk is of these very sources."""

    def decorate(function: Callable[..., Any]) -> Any:
        compiled: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
        if compiled is not function:  # else NUMBA_DISABLE_JIT is set
            compiled.enable_caching()
            compiled._cache._cache_file._source_stamp = _STAMP
        return compiled

    return decorate


jit = _compiled(fastmath=_FUSES)
jit_exact = _compiled()
jit_reduce = _compiled(fastmath=_REDUCES)
jit_inline = _compiled(fastmath=_FUSES, inline="always")


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


@jit_inline
def normal_tail(x: Any, bell: Any) -> Any:
    """The normal distribution below -|x|, `bell` being exp(-x * x / 2), to 1.5e-7: the error
    function of Abramowitz and Stegun 7.1.26, which shares its one exponential with its slope.
    """
    t = _F(1) / (_F(1) + _F(0.3275911 * 0.7071067811865476) * abs(x))
    p = _F(1.061405429)
    p = p * t + _F(-1.453152027)
    p = p * t + _F(1.421413741)
    p = p * t + _F(-0.284496736)
    p = p * t + _F(0.254829592)
    return _F(0.5) * p * t * bell

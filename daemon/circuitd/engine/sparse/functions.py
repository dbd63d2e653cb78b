"""Functions of one number that kernels share, for scalars and for vectors of lanes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.jit import jit, jit_inline
from circuitd.engine.sparse.vectors import (
    LANES,
    MAGNITUDE,
    bits,
    floats,
    floor,
    load,
    splat,
    store,
    to_integers,
    where,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32
_LOG2_E: Final = _F(1.4426950408889634)
# ln 2 in two parts: the first times a small integer is exact.
_LN_2: Final = _F(0.693359375)
_LN_2_REST: Final = _F(-2.12194440e-4)
_LEAST: Final = _F(-87)
_TAIL_SCALE: Final = _F(0.3275911 * 0.7071067811865476)


@jit_inline
def exp(x: Any) -> Any:
    """E ** x in float32 to about 2 ulp, for x <= 88; written out, so that it vectorises."""
    x = max(x, _LEAST)
    n = np.floor(x * _LOG2_E + _F(0.5))
    r = x - n * _LN_2
    r = r - n * _LN_2_REST
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


@jit
def exp_of_lanes(x: Any) -> Any:
    """The same of a vector."""
    one = splat(_F(1))
    x = where(x < splat(_LEAST), splat(_LEAST), x)
    n = floor(x * splat(_LOG2_E) + splat(_F(0.5)))
    r = x - n * splat(_LN_2)
    r -= n * splat(_LN_2_REST)
    p = splat(_F(1.0 / 5040)) * r + splat(_F(1.0 / 720))
    p = p * r + splat(_F(1.0 / 120))
    p = p * r + splat(_F(1.0 / 24))
    p = p * r + splat(_F(1.0 / 6))
    p = p * r + splat(_F(0.5))
    p = p * r + one
    p = p * r + one
    return p * floats((to_integers(n) + splat(127)) << splat(23))


@jit
def normal_tail_of_lanes(x: Any, bell: Any) -> Any:
    """The normal distribution below -|x|, `bell` being exp(-x * x / 2), to 1.5e-7: the error
    function of Abramowitz and Stegun 7.1.26, which shares its one exponential with its slope.
    """
    one = splat(_F(1))
    t = one / (one + splat(_TAIL_SCALE) * floats(bits(x) & splat(MAGNITUDE)))
    p = splat(_F(1.061405429)) * t + splat(_F(-1.453152027))
    p = p * t + splat(_F(1.421413741))
    p = p * t + splat(_F(-0.284496736))
    p = p * t + splat(_F(0.254829592))
    return splat(_F(0.5)) * p * t * bell


@jit
def activate(x: Array, is_gelu: bool) -> None:
    """GELU (exact, by the error function) or ReLU of `x` [channels, lanes], in place; the lanes
    fill whole vectors.
    """
    zero = splat(_F(0))
    for channel in range(x.shape[0]):
        for lane in range(0, x.shape[1], LANES):
            value = load(x, channel, lane)
            if is_gelu:
                tail = normal_tail_of_lanes(value, exp_of_lanes(splat(_F(-0.5)) * value * value))
                value *= where(value > zero, splat(_F(1)) - tail, tail)
            else:
                value = where(value < zero, zero, value)
            store(value, x, channel, lane)

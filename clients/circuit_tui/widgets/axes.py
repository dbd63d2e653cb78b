"""Axes of a plot: the range they cover, where their ticks are, how a value finds its place."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from circuit_client.render.heat import number


@dataclass(frozen=True, slots=True)
class AxisScale:
    """A range from `low` to `high`, even or by powers."""

    low: float
    high: float
    log: bool = False
    #: Whether only whole numbers mean something.
    whole: bool = False

    @classmethod
    def over(
        cls, values: ArrayLike, *, log: bool = False, margin: float = 0.0
    ) -> "AxisScale | None":
        """The range of what has a place on such an axis; None if nothing has.

        `margin` is a share of it that is added at both ends, so that marks stand clear of the axes.
        """
        numbers = np.asarray(values, np.float64).ravel()
        numbers = numbers[np.isfinite(numbers)]
        if log:
            numbers = numbers[numbers > 0]
        if not len(numbers):
            return None
        low, high = float(numbers.min()), float(numbers.max())
        if low == high:  # one value lies in the middle of a range of its own
            low, high = (
                (low / 2, high * 2)
                if log
                else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
            )
        whole = bool((numbers == np.rint(numbers)).all()) and high - low >= 1
        if log:
            wide = (high / low) ** margin
            return cls(low / wide, high * wide, log, whole)
        wide = (high - low) * margin
        return cls(low - wide, high + wide, log, whole)

    def shares(self, values: ArrayLike) -> NDArray[np.float64]:
        """0 at the low end, 1 at the high one; NaN without a place."""
        numbers = np.asarray(values, np.float64)
        if not self.log:
            return (numbers - self.low) / (self.high - self.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.where(numbers > 0, numbers, np.nan))
        return (logs - math.log(self.low)) / (math.log(self.high) - math.log(self.low))

    def value(self, share: float) -> float:
        """The value at a share of the axis."""
        if self.log:
            return math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return self.low + share * (self.high - self.low)

    def ticks(self, at_most: int) -> list[float]:
        """Round values within the range, ascending: 1, 2 or 5 times a power of ten, or powers."""
        if at_most < 1:
            return []
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            powers = [10.0**n for n in range(first, last + 1)]
            if len(powers) >= 2:
                every = -(-len(powers) // at_most)
                return powers[::every]
        rough = (self.high - self.low) / at_most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= rough)
        step = max(1.0, step) if self.whole else step
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [n * step for n in range(first, last + 1)][:at_most]


def tick_text(value: float) -> str:
    """A number at a tick; whole ones are written out up to a hundred thousand."""
    value = 0.0 if abs(value) < 1e-12 else value
    if value.is_integer() and abs(value) < 1e5:
        return f"{value:.0f}"
    return number(value)

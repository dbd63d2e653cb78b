"""Paired timing: subjects take turns within every round, so that what disturbs one disturbs all.

A subject is called in bursts. The first call of a burst finds cold caches and sleeping threads
after another subject's turn; it is made, and not counted. Ratios and differences are taken within a
round, between the medians of the bursts, and reported as their median and quartiles over rounds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Runs a number of times; seconds of each.
Subject = Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Spread":
        """Median and quartiles of `values`."""
        low, median, high = np.quantile(np.asarray(values, dtype=float), (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True, eq=False)
class Timing:
    """What one subject took: seconds [rounds, calls per burst]."""

    seconds: np.ndarray

    @property
    def p50_ms(self) -> float:
        """Median over all calls."""
        return 1e3 * float(np.quantile(self.seconds, 0.5))

    @property
    def p99_ms(self) -> float:
        """99th percentile over all calls."""
        return 1e3 * float(np.quantile(self.seconds, 0.99))

    @property
    def call_ms(self) -> Spread:
        """Median and quartiles over all calls."""
        return Spread.of(1e3 * self.seconds.ravel())

    def times(self, baseline: "Timing") -> Spread:
        """How many times as long as `baseline`."""
        return Spread.of(self._per_round() / baseline._per_round())

    def beyond_ms(self, baseline: "Timing") -> Spread:
        """How much longer than `baseline`."""
        return Spread.of(1e3 * (self._per_round() - baseline._per_round()))

    def _per_round(self) -> np.ndarray:
        return np.median(self.seconds, axis=1)


def local(call: Callable[[], object]) -> Subject:
    """A function of this process as a subject."""

    def run(calls: int) -> list[float]:
        seconds: list[float] = []
        for _ in range(calls):
            start_s = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start_s)
        return seconds

    return run


def take_turns(
    subjects: Mapping[str, Subject], *, rounds: int, burst: int, lead_in: int = 1
) -> dict[str, Timing]:
    """Run every subject once per round, `burst` counted calls at a time; each round begins with
    another subject, so that none always follows the same one. `lead_in` calls open each turn
    uncounted; what takes seconds can do without.
    """
    names = list(subjects)
    seconds: dict[str, list[Sequence[float]]] = {name: [] for name in names}
    for name in names:  # first calls compile, import and allocate
        subjects[name](1 + lead_in)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(subjects[name](burst + lead_in)[lead_in:])
    return {name: Timing(np.array(seconds[name])) for name in names}

"""Bootstrap intervals over pairs: what would have been measured on other pairs of the task.

Pairs are resampled whole, since the two sides of one pair are not independent; the interval lies
between percentiles. Everything that is compared is resampled alike, so differences and ratios of
two outcomes on the same prompts are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuit_protocol.circuits import Interval, Measurement
from circuitd.circuits.problem import Outcome
from circuitd.circuits.verify.thresholds import retained

LEVEL = 0.95


@dataclass(frozen=True)
class Bootstrap:
    """`n_samples` resamplings of however many pairs an outcome has, drawn from `seed`."""

    n_samples: int
    seed: int

    def loss(self, name: str, *outcomes: Outcome) -> Measurement:
        """Mean loss per side of an outcome, or over several of the same prompts."""
        per_pair = np.mean([pair_losses(outcome) for outcome in outcomes], axis=0)
        return Measurement(
            name=name, value=float(per_pair.mean()), interval=self._interval(self._means(per_pair))
        )

    def accuracy(self, name: str, outcome: Outcome) -> Measurement:
        """Share of prompts answered right; a tie counts half."""
        right = (outcome.differences.sign().numpy() + 1) / 2
        per_pair = right.reshape(2, -1).mean(0)
        means = self._means(per_pair)
        return Measurement(
            name=name, value=float(per_pair.mean()), unit="share", interval=self._interval(means)
        )

    def retained(self, name: str, whole: Outcome, *outcomes: Outcome) -> Measurement:
        """Retained share of an outcome (several: of their mean loss), prompts those of `whole`."""
        losses = np.mean([pair_losses(outcome) for outcome in outcomes], axis=0)
        of_whole = pair_losses(whole)
        resampled = zip(self._means(losses), self._means(of_whole), strict=True)
        shares = np.array([retained(loss, whole_loss) for loss, whole_loss in resampled])
        value = retained(float(losses.mean()), float(of_whole.mean()))
        return Measurement(name=name, value=value, unit="share", interval=self._interval(shares))

    def _means(self, per_pair: np.ndarray) -> np.ndarray:
        """Means of the resamplings [n_samples] of `per_pair` [n]; equal n, equal resamplings."""
        n = len(per_pair)
        drawn = np.random.default_rng(self.seed % 2**64).integers(n, size=(self.n_samples, n))
        return per_pair[drawn].mean(1)

    @staticmethod
    def _interval(means: np.ndarray) -> Interval:
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(means, [tail, 1 - tail]).tolist()
        return Interval(low=low, high=high, level=LEVEL)


def pair_losses(outcome: Outcome) -> np.ndarray:
    """Mean loss of each pair's two sides [n], nats; rows i and i + n are a pair."""
    return outcome.losses.numpy().reshape(2, -1).mean(0)


def bounds(measurement: Measurement) -> tuple[float, float]:
    """The ends of a measurement's interval; of one without, its value twice."""
    interval = measurement.interval
    if interval is None:
        return measurement.value, measurement.value
    return interval.low, interval.high

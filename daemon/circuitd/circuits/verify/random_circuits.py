"""Random circuits: whether any node set with as many nodes of each site does as well."""

from __future__ import annotations

import numpy as np

from circuit_protocol.circuits import Control, Measurement
from circuitd.circuits.problem import Outcome
from circuitd.circuits.verify.draws import of_equal_size
from circuitd.circuits.verify.thresholds import P_RANDOM
from circuitd.circuits.verify.trial import Controlling, Trial


def random_circuits(trial: Trial) -> Controlling:
    """Losses of random circuits against the circuit's on the same few pairs.

    p is (1 + those as good as the circuit) / (1 + all drawn), which no number of draws can make 0.
    """
    few, problem = trial.few(), trial.problem
    circuit = yield from trial.circuit_on(few)
    everything = np.ones_like(trial.kept)
    rng, n = trial.rng(2), trial.settings.n_random_circuits
    outcomes: list[Outcome] = []
    for i in range(n):
        drawn = of_equal_size(problem.space, trial.kept, everything, rng)
        outcomes.append((yield from problem.score(drawn, few)))
        yield (i + 1) / n
    losses = np.array([outcome.loss for outcome in outcomes])
    n_as_good = int((losses <= circuit.loss).sum())
    p = (1 + n_as_good) / (1 + n)
    # With too few draws even a circuit that beats them all stays above the threshold.
    passed = True if p <= P_RANDOM else None if n_as_good == 0 else False
    return Control(
        name="random_circuits",
        passed=passed,
        sentence=f"Of {n} random circuits with as many nodes of each site {n_as_good} do as well "
        f"(p = {p:.3f}); their losses are {losses.min():.3f} to {losses.max():.3f}, the circuit's "
        f"{circuit.loss:.3f}.",
        measurements=(
            trial.bootstrap.loss("circuit's loss on the same pairs", circuit),
            trial.bootstrap.loss("mean loss of random circuits", *outcomes),
            Measurement(name="least loss of random circuits", value=float(losses.min())),
            Measurement(name="p", value=p, unit="share"),
        ),
    )

"""Necessity: whether the model fails without the circuit, and whether all of the circuit counts.

The circuit alone is ablated and all else stays; as many random other nodes of each site, ablated
likewise, say what that much damage does anywhere.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from circuit_protocol.circuits import Control, Measurement
from circuitd.circuits.cut import trim
from circuitd.circuits.problem import Outcome
from circuitd.circuits.verify.bootstrap import bounds
from circuitd.circuits.verify.draws import of_equal_size
from circuitd.circuits.verify.thresholds import (
    CHANCE,
    LEAST_GAIN,
    LEFT_WITHOUT,
    NEEDLESS,
    RETAINED,
    at_least,
)
from circuitd.circuits.verify.trial import Controlling, Shares, Trial

N_RANDOM = 10


def necessity(trial: Trial) -> Controlling:
    """Loss without the circuit, and without as many others; nodes that can go at no cost."""
    problem, bootstrap = trial.problem, trial.bootstrap
    whole = yield from trial.whole("train")
    without = yield from problem.score(~trial.kept, problem.train)
    rng = trial.rng(1)
    others: list[Outcome] = []
    for i in range(N_RANDOM):
        drawn = of_equal_size(problem.space, trial.kept, ~trial.kept, rng)
        others.append((yield from problem.score(~drawn, problem.train)))
        yield (i + 1) / (2 * N_RANDOM)
    needed = yield from _trimmed(trial)
    needless = 1 - float(needed.sum()) / max(trial.k, 1)
    left = bootstrap.retained("retained without the circuit", whole, without)
    left_of_others = bootstrap.retained("retained without others", whole, *others)
    loss_of_others = bootstrap.loss("loss without as many others", *others)
    low, high = bounds(left)
    passed = True if high <= LEFT_WITHOUT else False if low > RETAINED else None
    verdict = {
        True: "the model needs the circuit",
        False: "the model does the task without the circuit",
        None: "the model does part of the task without the circuit",
    }[passed]
    if passed and at_least(*bounds(left_of_others), RETAINED) is not True:
        passed, verdict = False, "so much damage anywhere does the same"
    n_needless = trial.k - int(needed.sum())
    if passed and needless > NEEDLESS:
        passed, verdict = None, "the model needs the circuit, but not most of its nodes"
    if whole.loss > CHANCE - LEAST_GAIN:
        passed, verdict = False, "the whole model does not do the task, so it needs nothing for it"
    return Control(
        name="necessity",
        passed=passed,
        sentence=f"With only the circuit ablated the loss is {without.loss:.3f} (chance is .693), "
        f"with as many other nodes of each site {loss_of_others.value:.3f}; {n_needless} of the "
        f"{trial.k} nodes can go without raising the circuit's loss above its limit: {verdict}.",
        measurements=(
            bootstrap.loss("loss without the circuit", without),
            loss_of_others,
            left,
            left_of_others,
            Measurement(name="needless nodes", value=n_needless, unit="nodes"),
            Measurement(name="share of needless nodes", value=needless, unit="share"),
        ),
    )


def _trimmed(trial: Trial) -> Shares[np.ndarray]:
    """The circuit without nodes that a few pairs do not need for the loss it has on them, or for
    its target: BOOL [n_nodes].
    """
    few = trial.few()
    on_few = dataclasses.replace(trial.problem, train=few)
    own = yield from on_few.score(trial.kept, few)
    limit = max(own.loss, trial.target_loss or 0.0)
    return (yield from trim(on_few, trial.kept, limit))

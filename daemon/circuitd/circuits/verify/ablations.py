"""Ways to ablate the rest: zero, mean, another prompt's values, or only a random half of it.

A circuit that explains the model does its task however the rest is taken away. Where it does not,
the claim holds for one way to ablate, and the verdict must say so.
"""

from __future__ import annotations

import dataclasses

import torch

from circuit_protocol.circuits import Control, Measurement
from circuitd.circuits.ablate import CODES
from circuitd.circuits.problem import Ablation, Outcome, Problem
from circuitd.circuits.verify.bootstrap import bounds
from circuitd.circuits.verify.thresholds import RETAINED, SUBSETS_FAIL, SUBSETS_PASS, at_least
from circuitd.circuits.verify.thresholds import retained as retained_share
from circuitd.circuits.verify.trial import Controlling, Trial

KINDS: tuple[Ablation, ...] = ("mean", "zero", "resample")
#: Pairs for resampling, which keeps what every node does in all of them.
N_RESAMPLE_PAIRS = 32


def ablation_kinds(trial: Trial) -> Controlling:
    """The circuit's loss with the rest at its mean, at zero, and at what other prompts have there.

    Each is compared with the whole model on the same pairs.
    """
    shares: list[Measurement] = []
    losses: list[Measurement] = []
    for i, kind in enumerate(KINDS):
        problem = _ablated_by(trial, kind)
        if problem is None:
            continue
        prompts = trial.few(n=N_RESAMPLE_PAIRS) if kind == "resample" else problem.train
        cuts = tuple(dataclasses.replace(cut, code=CODES[kind]) for cut in trial.cut_edges)
        found = trial.calibrated((yield from problem.score(trial.kept, prompts, cuts)))
        whole = yield from trial.whole_on(prompts)
        losses.append(trial.bootstrap.loss(f"loss, rest at {_NAMES[kind]}", found))
        shares.append(trial.bootstrap.retained(f"retained, rest at {_NAMES[kind]}", whole, found))
        yield (i + 1) / len(KINDS)
    decisions = [at_least(*bounds(share), RETAINED) for share in shares]
    passed = False if False in decisions else None if None in decisions else True
    said = ", ".join(f"{m.value:.3f} with the rest at {_of(m)}" for m in losses)
    lost = " or ".join(_of(m) for m, d in zip(losses, decisions, strict=True) if d is False)
    verdict = {
        True: "it does the task in every way",
        False: f"it does not do the task with the rest at {lost}",
        None: "in some way it may or may not do the task",
    }[passed]
    return Control(
        name="ablation_kinds",
        passed=passed,
        sentence=f"The circuit's loss is {said}: {verdict}.",
        measurements=(*losses, *shares),
    )


def random_subsets(trial: Trial) -> Controlling:
    """The circuit's loss when a random half of the rest is ablated instead of all of it."""
    few = trial.few()
    whole = yield from trial.whole_on(few)
    rng, n = trial.rng(3), trial.settings.n_random_subsets
    outcomes: list[Outcome] = []
    for i in range(n):
        left_in = rng.random(len(trial.kept)) < 0.5
        outcomes.append((yield from trial.problem.score(trial.kept | left_in, few)))
        yield (i + 1) / n
    shares = [retained_share(outcome.loss, whole.loss) for outcome in outcomes]
    n_intact = sum(share >= RETAINED for share in shares)
    intact = n_intact / n
    passed = True if intact >= SUBSETS_PASS else False if intact < SUBSETS_FAIL else None
    mean = trial.bootstrap.loss("mean loss", *outcomes)
    worst = max(outcome.loss for outcome in outcomes)
    return Control(
        name="random_subsets",
        passed=passed,
        sentence=f"With a random half of the rest ablated the loss is {mean.value:.3f} in the mean "
        f"and {worst:.3f} at worst; the task survives in {n_intact} of {n} draws.",
        measurements=(
            mean,
            Measurement(name="largest loss", value=worst),
            Measurement(name="draws that keep the task", value=intact, unit="share"),
        ),
    )


_NAMES: dict[Ablation, str] = {
    "mean": "its mean",
    "zero": "zero",
    "resample": "other prompts' values",
}


def _of(measurement: Measurement) -> str:
    return measurement.name.removeprefix("loss, rest at ")


def _ablated_by(trial: Trial, kind: Ablation) -> Problem | None:
    """The problem with another way to ablate; None for means that there are not."""
    problem = trial.problem
    if kind == problem.ablation:
        return problem
    if kind == "mean":
        if trial.means is None:
            return None
        values = trial.means
    else:
        values = torch.zeros(problem.space.n_nodes)
    return dataclasses.replace(problem, gated=problem.gated.holding(values), ablation=kind)

"""Nulls: the same method on a task without a rule, and on a network that has learned nothing.

If these give circuits as small as the one on trial, its size says something about the method and
nothing about the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from circuit_protocol.circuits import Control, ControlName, Measurement
from circuitd.circuits.gated import Gated
from circuitd.circuits.means import pretraining_means
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.verify.fresh import Attempt, prune_anew
from circuitd.circuits.verify.thresholds import NULL_FAILS, NULL_PASSES
from circuitd.circuits.verify.trial import Controlling, Trial, part_of
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.steps import Steps
from circuitd.engine.weights import Layer, Matrices, Norm, Weights

#: Windows of pretraining text that the means of random weights are taken over, a few at a time.
N_WINDOWS, WINDOWS_PER_STEP = 32, 4


def shuffled_labels(trial: Trial) -> Controlling:
    """Prune for a task without a rule: the right answer of each prompt hangs on a hash of it."""

    def make(salt: int) -> Steps[Problem]:
        yield None
        problem = trial.problem
        return dataclasses.replace(
            problem,
            pool=shuffled(problem.pool, salt),
            train=shuffled(problem.train, salt),
            held_out=shuffled(problem.held_out, salt),
        )

    return (yield from _null(trial, "shuffled_labels", "shuffled labels", make))


def random_weights(trial: Trial) -> Controlling:
    """Prune for the task in a network whose every tensor has its entries permuted."""
    needs_means = trial.problem.ablation == "mean"
    if needs_means and trial.text is None:
        return Control(
            name="random_weights",
            passed=None,
            sentence="Random weights could not be tried: their means need a sample of pretraining "
            "text, and the model comes without.",
        )

    def make(seed: int) -> Steps[Problem]:
        weights = permuted(trial.problem.gated.weights, seed)
        yield None
        if needs_means:
            ablated = yield from _means(weights, trial.text)
        else:
            ablated = torch.zeros(trial.problem.space.n_nodes)
        sparse = trial.problem.gated.execution == "sparse"
        return dataclasses.replace(trial.problem, gated=Gated(weights, ablated, sparse=sparse))

    return (yield from _null(trial, "random_weights", "permuted weights", make))


def shuffled(prompts: ScoredPrompts, salt: int) -> ScoredPrompts:
    """`prompts` where the two answers of a prompt change places if a hash of its tokens says so.

    The same prompt has the same answer wherever it stands, and half of all are still right.
    """
    assert prompts.answers is not None  # circuits are found for tasks
    key = salt.to_bytes(8, "little", signed=True)
    swapped = [
        hashlib.blake2b(row[:length].numpy().tobytes(), digest_size=1, key=key).digest()[0] % 2 == 1
        for row, length in zip(prompts.tokens.cpu(), prompts.lengths.tolist(), strict=True)
    ]
    swap = torch.tensor(swapped, device=prompts.answers.device)[:, None]
    answers = torch.where(swap, prompts.answers.flip(1), prompts.answers)
    return dataclasses.replace(prompts, answers=answers)


def permuted(weights: Weights, seed: int) -> Weights:
    """`weights` with the entries of every tensor in random order: values and density stay."""
    draw = torch.Generator().manual_seed(seed % 2**63)
    seen: dict[int, Tensor] = {}

    def shuffled(tensor: Tensor) -> Tensor:
        order = torch.randperm(tensor.numel(), generator=draw).to(tensor.device)
        return tensor.flatten()[order].reshape(tensor.shape)

    def entries(tensor: Tensor) -> Tensor:
        if id(tensor) not in seen:  # tied tensors stay tied
            seen[id(tensor)] = shuffled(tensor)
        return seen[id(tensor)]

    def fields(part: Weights | Layer | Norm) -> dict[str, object]:
        changed: dict[str, object] = {}
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = entries(value)
            elif isinstance(value, Norm):
                changed[field.name] = dataclasses.replace(value, **fields(value))
            elif isinstance(value, Matrices):
                dense = (matrix.to_dense() for matrix in value)
                changed[field.name] = Matrices(*(WeightMatrix.of(shuffled(m)) for m in dense))
        return changed

    with torch.inference_mode(False), torch.no_grad():
        layers = tuple(dataclasses.replace(layer, **fields(layer)) for layer in weights.layers)
        # What was laid out of the old nonzeros does not hold for the new ones.
        return dataclasses.replace(weights, layers=layers, sparse=None, **fields(weights))


def _means(weights: Weights, text: Tensor | None) -> Steps[Tensor]:
    assert text is not None  # the caller has seen it
    sums: dict[str, Tensor] = {}
    batches = text[:N_WINDOWS].split(WINDOWS_PER_STEP)
    n_tokens = sum(batch.numel() for batch in batches)
    for batch in batches:
        for site, mean in pretraining_means(weights, [batch.to(weights.device)]).items():
            part = mean.double() * (batch.numel() / n_tokens)
            sums[site] = sums[site] + part if site in sums else part
        yield None
    return torch.cat([sums[site.name] for site in node_space(weights.config).sites]).float()


def _null(
    trial: Trial, name: ControlName, what: str, make: Callable[[int], Steps[Problem]]
) -> Controlling:
    """Prune for `make(seed)` some times, and hold the smallest circuit against the one on trial."""
    limit = yield from trial.limit()
    n_runs = trial.settings.n_null_runs
    attempts: list[Attempt] = []
    for run in range(n_runs):
        salt = trial.settings.seed + run
        problem = yield from make(salt)
        known = trial.run(name, salt, run)
        steps = prune_anew(problem, trial.prune, run, limit, known)
        attempts.append((yield from part_of(steps, run, n_runs)))
    return _held_against(trial, name, what, limit, attempts)


def _held_against(
    trial: Trial, name: ControlName, what: str, limit: float, attempts: Sequence[Attempt]
) -> Control:
    best_loss = min(attempt.best_loss for attempt in attempts)
    measurements = [
        Measurement(name="loss to reach", value=limit),
        Measurement(name=f"least loss, {what}", value=best_loss),
    ]
    reached = [a for a in attempts if a.kept is not None]
    n_runs = f"{len(attempts)} run" + ("s" if len(attempts) > 1 else "")
    if not reached:
        return Control(
            name=name,
            passed=True,
            sentence=f"With {what} no number of nodes reaches a loss of {limit:.3f} ({n_runs}, "
            f"least loss {best_loss:.3f}); the circuit does with {trial.k}.",
            measurements=tuple(measurements),
        )
    smallest = min(reached, key=lambda attempt: attempt.k or 0)
    k = smallest.k or 0
    ratio = k / max(trial.k, 1)
    measurements += [
        Measurement(name=f"nodes, {what}", value=k, unit="nodes"),
        Measurement(name=f"edges, {what}", value=smallest.n_edges, unit="edges"),
        Measurement(name="nodes over the circuit's", value=ratio, unit="ratio"),
    ]
    passed = True if ratio >= NULL_PASSES else False if ratio < NULL_FAILS else None
    said = {
        True: f"far more than the circuit's {trial.k}",
        None: f"more than the circuit's {trial.k}, but not far more",
        False: f"hardly more than the circuit's {trial.k}, whose size is thus no evidence",
    }[passed]
    if k <= trial.k:
        said = f"no more than the circuit's {trial.k}, whose size is thus no evidence"
    return Control(
        name=name,
        passed=passed,
        sentence=f"With {what} {k} nodes reach a loss of {limit:.3f} ({n_runs}), {said}.",
        measurements=tuple(measurements),
    )

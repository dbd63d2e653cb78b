"""Find a task's circuit: rank the nodes, cut the ranking at a target, trim, measure.

Everything is done in bounded steps, and everything random follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from circuit_protocol.circuits import Calibration, Method, PruneSettings, PruneStep
from circuitd.circuits import calibrate, rankings
from circuitd.circuits.ablate import EdgeCut
from circuitd.circuits.cut import check_task_is_done, first, smallest_k, trim
from circuitd.circuits.cut_edges import cut_needless_edges
from circuitd.circuits.edges import edges_between
from circuitd.circuits.errors import AnswersCoincide, TooManyNodes
from circuitd.circuits.problem import Outcome, Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.prune import Pruner
from circuitd.engine.steps import Steps

#: Told of each pruning step, for progress and checkpoints.
Watch = Callable[[Pruner], None]


@dataclass(frozen=True)
class Target:
    """Cut at the smallest k that reaches `loss` (nats per side), or at exactly `k` nodes."""

    loss: float | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.k is None):
            raise ValueError("a target is either a loss or a k")


@dataclass(frozen=True, eq=False)
class Ranking:
    """All nodes, the one to keep first in front [n_nodes], and how learning them went."""

    nodes: np.ndarray
    curve: tuple[PruneStep, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """A node set that reaches its target, and its outcome on both splits."""

    kept: np.ndarray  # BOOL [n_nodes]
    cut_edges: tuple[EdgeCut, ...]
    calibration: Calibration | None
    n_edges: int
    train: Outcome
    #: None: not measured there.
    held_out: Outcome | None

    @property
    def k(self) -> int:
        """Number of nodes."""
        return int(self.kept.sum())


def check_answers(prompts: ScoredPrompts) -> None:
    """Raise `AnswersCoincide` for a pair whose two answers are one token."""
    assert prompts.answers is not None  # circuits are found for tasks
    same = (prompts.answers[:, 0] == prompts.answers[:, 1]).nonzero()
    if len(same):
        row = int(same[0])
        raise AnswersCoincide(row, int(prompts.answers[row, 0]))


def rank(
    problem: Problem,
    method: Method,
    settings: PruneSettings,
    seed: int,
    *,
    pruner: Pruner | None = None,
    watch: Watch | None = None,
) -> Steps[Ranking]:
    """Rank all nodes by `method`. A `pruner` that has begun is carried on with."""
    check_answers(problem.train)
    if method == "learned":
        pruner = pruner or Pruner(problem.gated, problem.pool, settings, seed)
        while not pruner.is_done:
            yield from pruner.advance()
            if watch is not None:
                watch(pruner)
            yield None
        return Ranking(pruner.ranking(), tuple(pruner.curve))
    match method:
        case "attribution":
            nodes = yield from rankings.attribution(problem)
        case "integrated_gradients":
            nodes = yield from rankings.integrated_gradients(problem)
        case "activation_patching":
            nodes = yield from rankings.activation_patching(problem)
        case "magnitude":
            nodes = yield from rankings.magnitude(problem)
        case "random":
            nodes = yield from rankings.random(problem, seed)
    return Ranking(nodes)


def cut(
    problem: Problem, ranking: Ranking, target: Target, settings: PruneSettings
) -> Steps[Found]:
    """The circuit of `ranking` at `target`.

    Raises `TaskNotDone`, `TargetNotReached` or `TooManyNodes`, with what was measured.
    """
    n_nodes = problem.space.n_nodes
    if target.k is not None and not 0 <= target.k <= n_nodes:
        raise TooManyNodes(target.k, n_nodes)
    if target.loss is None:
        assert target.k is not None  # by Target's own check
        kept = first(ranking.nodes, target.k)
        here = yield from problem.score(kept, problem.train)
        limit = here.loss
    else:
        limit = target.loss
        yield from check_task_is_done(problem, limit)
        kept = first(ranking.nodes, (yield from smallest_k(problem, ranking.nodes, limit)))
        if settings.greedy:
            kept = yield from trim(problem, kept, limit)
    cut_edges: tuple[EdgeCut, ...] = ()
    if settings.prune_edges:
        cut_edges = yield from cut_needless_edges(problem, kept, limit)
    return (yield from measure(problem, kept, cut_edges, calibrated=settings.calibrate))


def measure(
    problem: Problem,
    kept: np.ndarray,
    cut_edges: tuple[EdgeCut, ...] = (),
    *,
    calibrated: bool = False,
    calibration: Calibration | None = None,
    held_out: bool = True,
) -> Steps[Found]:
    """Outcomes of a node set on both splits, or without `held_out` on the train split only.
    `calibrated` fits a calibration on the train split, `calibration` uses one that there is.
    """
    train = yield from problem.score(kept, problem.train, cut_edges)
    outside: Outcome | None = None
    if held_out:
        outside = yield from problem.score(kept, problem.held_out, cut_edges)
    if calibrated:
        calibration = calibrate.fit(train.differences)
    if calibration is not None:
        train = Outcome(calibrate.apply(train.differences, calibration))
        if outside is not None:
            outside = Outcome(calibrate.apply(outside.differences, calibration))
    counted = sum(len(part) for part in edges_between(problem.gated.weights, kept))
    return Found(kept, cut_edges, calibration, counted - len(cut_edges), train, outside)

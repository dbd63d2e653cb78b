"""Prune anew, for what a circuit is held against: nonsense, random weights, other seeds.

A null must have every chance: its ranking is tried at many sizes and not only at those that a
bisection visits, since the loss along a ranking learned for nonsense is anything but monotone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuit_protocol.circuits import PruneSettings
from circuitd.circuits.cut import first, halved, trim
from circuitd.circuits.edges import edges_between
from circuitd.circuits.problem import Outcome, Problem
from circuitd.circuits.prune import Pruner
from circuitd.circuits.verify.runs import FreshRun
from circuitd.circuits.verify.trial import Shares

#: Share of a fresh run's work that is learning; the rest is cutting.
LEARNING = 0.8


@dataclass(frozen=True, eq=False)
class Attempt:
    """The smallest circuit that reached the limit (`kept` BOOL [n_nodes], None: none did), and the
    least loss of any size tried, nats per side.
    """

    kept: np.ndarray | None
    n_edges: int
    best_loss: float

    @property
    def k(self) -> int | None:
        """Number of nodes of the circuit that reached the limit."""
        return None if self.kept is None else int(self.kept.sum())


def prune_anew(
    problem: Problem,
    settings: PruneSettings,
    seed: int,
    limit: float,
    run: FreshRun | None = None,
) -> Shares[Attempt]:
    """Learn gates with `seed` and cut them where they reach `limit` (nats) on the training pairs.

    The whole model need not do the task. `run` keeps what does not depend on the limit, and what it
    has of the same problem, settings and seed is not computed again.
    """
    run = run or FreshRun()
    if run.ranking is None:
        yield from _learn(problem, settings, seed, run)
    ranking = run.ranking
    assert ranking is not None  # just learned
    losses: dict[int, float] = {}

    def loss_at(k: int) -> Shares[float]:
        if k not in run.losses:
            outcome: Outcome = yield from problem.score(first(ranking, k), problem.train)
            run.losses[k] = outcome.loss
        losses[k] = run.losses[k]
        return losses[k]

    for k in _sizes(run.n_open, len(ranking)):
        if (yield from loss_at(k)) <= limit:
            break
    reached = [k for k, loss in losses.items() if loss <= limit]
    if not reached:
        return Attempt(None, 0, min(losses.values()))
    above = min(reached)
    below = max((k for k in losses if k < above), default=-1)

    def reaches(k: int) -> Shares[bool]:
        return (yield from loss_at(k)) <= limit

    kept = first(ranking, (yield from halved(reaches, below, above)))
    if settings.greedy:
        kept = yield from trim(problem, kept, limit)
    n_edges = sum(len(part) for part in edges_between(problem.gated.weights, kept))
    return Attempt(kept, n_edges, min(losses.values()))


def _learn(problem: Problem, settings: PruneSettings, seed: int, run: FreshRun) -> Shares[None]:
    pruner = Pruner(problem.gated, problem.pool, settings, seed)
    while not pruner.is_done:
        yield from pruner.advance()
        yield LEARNING * pruner.step / settings.n_steps
    run.ranking, run.n_open = pruner.ranking().astype(np.int32), pruner.n_open


def _sizes(n_open: int, n_nodes: int) -> list[int]:
    """Sizes to try, ascending: powers of two, and those around the number of gates left open."""
    powers = {2**i for i in range(4, n_nodes.bit_length())}
    around = {round(n_open * share) for share in (0.7, 0.85, 1.0, 1.2, 1.5)}
    return sorted({0, n_nodes} | {k for k in powers | around if k < n_nodes})

"""Cut a ranking of nodes where it just reaches a target loss, and trim what is not needed.

The paper bisects over k, nodes in the order of the ranking, on fixed prompts (FACTS 3). The loss is
not monotone in k; what is found is a k that reaches the target while k - 1 does not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np
import torch

from circuitd.circuits.errors import TargetNotReached, TaskNotDone
from circuitd.circuits.problem import Problem
from circuitd.engine.steps import Steps

#: What steps yield at their boundaries.
Y = TypeVar("Y")
#: A trim stops after this many failed tries to remove a node that the gradient said would cost.
N_TRIM_FAILURES = 6
#: Where the gradient (nats) says less, it may be wrong by any amount: attention has saturated, a
#: neuron is off, gains and losses of prompts cancel. Such a failure costs a try and ends nothing.
NO_COST = 1e-6


def first(ranking: np.ndarray, k: int) -> np.ndarray:
    """BOOL [n_nodes]: the `k` first nodes of `ranking` [n_nodes]."""
    kept = np.zeros(len(ranking), dtype=bool)
    kept[ranking[:k]] = True
    return kept


def check_task_is_done(problem: Problem, target_loss: float) -> Steps[float]:
    """The whole model's loss on the fixed prompts. Raises `TaskNotDone` if it exceeds the target:
    then no circuit can be told from the lack of one.
    """
    whole = yield from problem.score(np.ones(problem.space.n_nodes, bool), problem.train)
    if whole.loss > target_loss:
        raise TaskNotDone(whole.loss, target_loss)
    return whole.loss


def smallest_k(problem: Problem, ranking: np.ndarray, target_loss: float) -> Steps[int]:
    """The k whose first nodes reach `target_loss` on the fixed prompts while k - 1 do not.

    Doubles k until the target is reached, then halves the interval. Raises `TargetNotReached` when
    even all nodes of the ranking do not reach it.
    """
    n_nodes = len(ranking)

    def reaches(k: int) -> Steps[bool]:
        outcome = yield from problem.score(first(ranking, k), problem.train)
        return outcome.loss <= target_loss

    if (yield from reaches(0)):
        return 0
    below, k = 0, 16
    while not (yield from reaches(min(k, n_nodes))):
        if k >= n_nodes:
            whole = yield from problem.score(np.ones(n_nodes, bool), problem.train)
            raise TargetNotReached(whole.loss, target_loss, n_nodes)
        below, k = k, 2 * k
    return (yield from halved(reaches, below, min(k, n_nodes)))


def halved(
    reaches: Callable[[int], Generator[Y, None, bool]], below: int, above: int
) -> Generator[Y, None, int]:
    """A k in (below, above] that reaches the target while k - 1 does not, `above` being known to
    reach it and `below` not to.
    """
    while above - below > 1:
        middle = (above + below) // 2
        if (yield from reaches(middle)):
            above = middle
        else:
            below = middle
    return above


def trim(problem: Problem, kept: np.ndarray, target_loss: float) -> Steps[np.ndarray]:
    """Remove nodes that are not needed for `target_loss`: BOOL [n_nodes], a subset of `kept`.

    The paper admits that its circuits keep some. Nodes are tried in the order of what the gradient
    says their removal costs, several at once; a group that costs too much is halved.
    """
    kept = kept.copy()
    spared: set[int] = set()
    cost: np.ndarray | None = None
    n_at_once, failures = max(1, int(kept.sum()) // 8), 0
    while failures < N_TRIM_FAILURES and kept.any():
        if cost is None:
            gates = torch.from_numpy(kept.astype(np.float32))
            cost = -(yield from problem.gated.gradient(problem.train, gates)).gradient.numpy()
        nodes = np.flatnonzero(kept)
        nodes = nodes[~np.isin(nodes, list(spared))]
        if not len(nodes):
            break
        group = nodes[np.argsort(cost[nodes], kind="stable")[:n_at_once]]
        fewer = kept.copy()
        fewer[group] = False
        outcome = yield from problem.score(fewer, problem.train)
        if outcome.loss <= target_loss:
            kept, cost, failures = fewer, None, 0
        elif len(group) > 1:
            n_at_once = len(group) // 2
        else:
            spared.add(int(group[0]))
            failures += int(cost[group[0]] > NO_COST)
    return kept

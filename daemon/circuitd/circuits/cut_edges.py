"""Edge-level pruning: cut the edges between kept nodes that the target does not need.

An edge that is cut carries its source's ablated value. Edges are tried in the order of what cutting
each alone costs on a few pairs, many at once; a group that costs too much is halved.
"""

from __future__ import annotations

import numpy as np
import torch

from circuitd.circuits.ablate import CODES, EdgeCut, Mask, Sweep
from circuitd.circuits.problem import Outcome, Problem
from circuitd.circuits.value import cut_of, edges_in, edges_of
from circuitd.engine.steps import Steps

#: Pairs on which each edge's own cost is measured.
N_ORDER_PAIRS = 16
#: Stop when this many single edges in a row could not be cut.
N_FAILURES = 6


def cut_needless_edges(
    problem: Problem, kept: np.ndarray, target_loss: float
) -> Steps[tuple[EdgeCut, ...]]:
    """Edges between `kept` nodes (BOOL [n_nodes]) to cut while the loss on the fixed prompts stays
    at or below `target_loss`.
    """
    code, weights = CODES[problem.ablation], problem.gated.weights
    edges = [cut_of(edge, code) for edge in edges_in(edges_of(weights, kept))]
    costs = yield from _costs(problem, kept, edges)
    waiting = [edges[i] for i in np.argsort(costs, kind="stable")]
    chosen: tuple[EdgeCut, ...] = ()
    n_at_once, failures = max(1, len(waiting) // 2), 0
    while waiting and failures < N_FAILURES:
        group = tuple(waiting[:n_at_once])
        outcome = yield from problem.score(kept, problem.train, chosen + group)
        if outcome.loss <= target_loss:
            chosen += group
            waiting = waiting[len(group) :]
            failures = 0
        elif len(group) > 1:
            n_at_once = len(group) // 2
        else:
            waiting = waiting[1:]
            failures += 1
    return chosen


def _costs(problem: Problem, kept: np.ndarray, edges: list[EdgeCut]) -> Steps[np.ndarray]:
    """The loss when each edge alone is cut, nats [n_edges]."""
    few = problem.train.pairs(torch.arange(min(N_ORDER_PAIRS, len(problem.train) // 2)))
    codes = np.where(kept, 0, CODES[problem.ablation]).astype(np.uint8)
    base = Mask(codes)
    masks = [Mask(codes, (edge,)) for edge in edges]
    variants = None if problem.ablation == "resample" else problem.gated.variants(few, base)
    if variants is not None:
        costs: list[float] = []
        for found in variants.differences(masks):
            if found is not None:
                costs += [Outcome(row).loss for row in found]
            yield None
        return np.array(costs)
    ablated = problem.gated.ablated.to(problem.gated.weights.device)
    sweep = Sweep(problem.gated.weights, few, base, ablated, problem.resample_seed)
    losses: list[float] = []
    for scores in sweep.base_steps():
        if scores is None:
            yield None
    for scores in sweep.run(masks):
        if scores is not None:
            losses += scores.losses.tolist()
        yield None
    return np.array(losses)

"""Rankings of all nodes by other means than learning, to compare the learned ones with.

Each is a function of a problem and answers int64 [n_nodes], the node to keep first in front.
"""

from __future__ import annotations

import numpy as np
import torch

from circuitd.circuits.problem import Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan, Record
from circuitd.engine.steps import Steps

#: Points of the path from all nodes ablated to none.
N_PATH_POINTS = 16
#: Pairs that activation patching runs each of its many ablations on.
N_PATCHING_PAIRS = 8
#: Rows of one recording pass.
ROWS_PER_PASS = 32


def attribution(problem: Problem) -> Steps[np.ndarray]:
    """By attribution patching: first-order effect of ablating a node of the whole model, |dL/dg|
    for the gate g of value g * x + (1 - g) * ablated.
    """
    found = yield from problem.gated.gradient(problem.train, torch.ones(problem.space.n_nodes))
    return _descending(found.gradient.abs().numpy())


def integrated_gradients(problem: Problem) -> Steps[np.ndarray]:
    """By the gradient integrated along the straight path from all nodes ablated to none."""
    total = torch.zeros(problem.space.n_nodes)
    for i in range(N_PATH_POINTS):
        gates = torch.full((problem.space.n_nodes,), (i + 0.5) / N_PATH_POINTS)
        found = yield from problem.gated.gradient(problem.train, gates)
        total += found.gradient
    return _descending(total.abs().numpy())


def activation_patching(problem: Problem) -> Steps[np.ndarray]:
    """By greedy removal: ablate each remaining node alone, drop the half that matters least, and
    measure again in what is left.
    """
    n_pairs = len(problem.train) // 2
    few = problem.train.pairs(torch.arange(min(N_PATCHING_PAIRS, n_pairs)))
    kept = np.ones(problem.space.n_nodes, bool)
    dropped: list[np.ndarray] = []
    while kept.sum() > 1:
        base = yield from problem.score(kept, few)
        nodes = np.flatnonzero(kept)
        effects = np.empty(len(nodes))
        for i, node in enumerate(nodes):
            without = kept.copy()
            without[node] = False
            outcome = yield from problem.score(without, few)
            effects[i] = outcome.loss - base.loss
        order = nodes[np.argsort(effects, kind="stable")]
        out = order[: max(1, len(order) // 2)]
        dropped.append(out)
        kept[out] = False
    return np.concatenate([np.flatnonzero(kept), *(out[::-1] for out in reversed(dropped))])


def magnitude(problem: Problem) -> Steps[np.ndarray]:
    """By the root mean square of (activation - ablated value) over the task's prompts."""
    total = torch.zeros(problem.space.n_nodes, dtype=torch.float64)
    for rows in problem.train.passes(ROWS_PER_PASS):
        total += _squared_deviation(problem, problem.train.rows(rows))
        yield None
    return _descending(total.numpy())


def random(problem: Problem, seed: int) -> Steps[np.ndarray]:
    """In random order."""
    yield None
    return np.random.default_rng(seed % 2**64).permutation(problem.space.n_nodes)


def _squared_deviation(problem: Problem, prompts: ScoredPrompts) -> torch.Tensor:
    names = [site.name for site in problem.space.sites]
    plan = Plan(
        record=tuple(Record(name) for name in names), logits="none", lengths=prompts.lengths
    )
    run = forward(problem.gated.weights, prompts.tokens, plan)
    real = torch.arange(prompts.tokens.shape[1]) < prompts.lengths[:, None].cpu()
    parts = []
    for name in names:
        ablated = problem.gated.ablated[problem.space.span(name)]
        parts.append((run.records[name].cpu() - ablated)[real].double().square().sum(0))
    return torch.cat(parts)


def _descending(scores: np.ndarray) -> np.ndarray:
    """Largest score first; equal scores in node order."""
    return np.argsort(-scores, kind="stable")

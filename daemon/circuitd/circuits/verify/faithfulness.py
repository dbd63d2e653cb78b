"""Faithfulness over node budgets: CPR and CMD, after MIB (Mueller et al., arXiv 2504.13151).

With m(k) the mean difference of right and wrong logit when the k first nodes of a ranking are kept,

    f(k) = (m(k) - m(0)) / (m(n) - m(0)),     n all nodes of the model,

CPR, the circuit performance ratio, is the area under f over the share x = k / n in [0, 1], and
CMD, the circuit-model distance, the area under |1 - f|; trapezoids between the budgets. CPR is
better larger, and may exceed 1; CMD is better smaller, and 0 at best. Our budgets count nodes,
MIB's edges.

A stored circuit is a set, so the ranking is made here: its own nodes first, those before the others
by the size of their gate's gradient in the circuit; then all others, by it in the whole model.
"""

from __future__ import annotations

import numpy as np
import torch

from circuit_protocol.circuits import Control, Measurement
from circuitd.circuits.cut import first
from circuitd.circuits.verify.trial import Controlling, Shares, Trial

#: Shares of all nodes, MIB's and two between.
BUDGETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def faithfulness(trial: Trial) -> Controlling:
    """CPR, CMD, and f at the circuit's own size."""
    ranking = yield from _ranking(trial)
    n, prompts = len(ranking), trial.problem.train
    sizes = sorted({0, trial.k, n, *(max(1, round(share * n)) for share in BUDGETS)})
    differences: dict[int, float] = {}
    for i, k in enumerate(sizes):
        outcome = yield from trial.problem.score(first(ranking, k), prompts)
        differences[k] = float(outcome.differences.double().mean())
        yield (i + 1) / len(sizes)
    span = differences[n] - differences[0]
    if span <= 0:
        return Control(
            name="faithfulness",
            passed=None,
            sentence="The whole model tells the answers apart no better than with every node "
            "ablated, so nothing can be faithful to it.",
        )
    faithful = {k: (m - differences[0]) / span for k, m in differences.items()}
    shares = np.array(sizes) / n
    f = np.array([faithful[k] for k in sizes])
    cpr, cmd = float(np.trapezoid(f, shares)), float(np.trapezoid(np.abs(1 - f), shares))
    own = faithful[trial.k]
    return Control(
        name="faithfulness",
        passed=None,
        sentence=f"The circuit's {trial.k} nodes recover {own:.2f} of the whole model's logit "
        f"difference; over all budgets CPR is {cpr:.3f} and CMD {cmd:.3f}.",
        measurements=(
            Measurement(name="faithfulness of the circuit", value=own, unit="ratio"),
            Measurement(name="CPR", value=cpr, unit="ratio"),
            Measurement(name="CMD", value=cmd, unit="ratio"),
            *(
                Measurement(name=f"faithfulness of {k} nodes", value=faithful[k], unit="ratio")
                for k in sizes
                if k not in (0, n, trial.k)
            ),
        ),
    )


def _ranking(trial: Trial) -> Shares[np.ndarray]:
    """All nodes, int64 [n_nodes]: the circuit's first."""
    gated, train = trial.problem.gated, trial.problem.train
    within = yield from gated.gradient(train, torch.from_numpy(trial.kept.astype(np.float32)))
    outside = yield from gated.gradient(train, torch.ones(len(trial.kept)))
    size = torch.where(torch.from_numpy(trial.kept), within.gradient, outside.gradient).abs()
    return np.lexsort((-size.numpy(), ~trial.kept))

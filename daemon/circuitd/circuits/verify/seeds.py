"""Other seeds: whether pruning anew finds the same nodes, and whether what they share suffices."""

from __future__ import annotations

import numpy as np

from circuit_protocol.circuits import Control, Measurement
from circuitd.circuits.verify.fresh import prune_anew
from circuitd.circuits.verify.thresholds import JACCARD_FAILS, JACCARD_PASSES
from circuitd.circuits.verify.trial import Controlling, Trial, part_of


def seeds(trial: Trial) -> Controlling:
    """Prune with the seeds after the circuit's own; Jaccard index of the node sets, common core."""
    limit = yield from trial.limit()
    n_seeds = trial.settings.n_seeds
    found: list[np.ndarray] = []
    for i in range(n_seeds):
        seed = trial.seed + 1 + i
        steps = prune_anew(trial.problem, trial.prune, seed, limit, trial.run("seeds", seed))
        attempt = yield from part_of(steps, i, n_seeds)
        if attempt.kept is not None:
            found.append(attempt.kept)
    others = "another seed" if n_seeds == 1 else f"{n_seeds} other seeds"
    if not found:
        return Control(
            name="seeds",
            passed=False,
            sentence=f"Pruned anew with {others}, nothing reached a loss of {limit:.3f}.",
        )
    indices = [jaccard(trial.kept, other) for other in found]
    core = np.logical_and.reduce([trial.kept, *found])
    outcome = yield from trial.problem.score(core, trial.problem.train)
    bootstrap = trial.bootstrap
    index = float(np.mean(indices))
    sizes = ", ".join(str(int(other.sum())) for other in found)
    missed = n_seeds - len(found)
    return Control(
        name="seeds",
        passed=True if index >= JACCARD_PASSES else False if index < JACCARD_FAILS else None,
        sentence=f"Pruned anew with {others} ({sizes} nodes"
        + (f", {missed} missed the target" if missed else "")
        + f"), the circuits share {index:.2f} of their nodes with this one (Jaccard); the "
        f"{int(core.sum())} nodes common to all have a loss of {outcome.loss:.3f}.",
        measurements=(
            Measurement(name="Jaccard index", value=index, unit="share"),
            Measurement(name="least Jaccard index", value=min(indices), unit="share"),
            Measurement(name="nodes common to all", value=float(core.sum()), unit="nodes"),
            bootstrap.loss("loss of the common nodes", outcome),
            Measurement(
                name="nodes, other seeds", value=float(np.mean([o.sum() for o in found])),
                unit="nodes",
            ),
        ),
    )  # fmt: skip


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Nodes of both over nodes of either; 1 for two empty sets."""
    either = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / either) if either else 1.0

"""Fresh prune runs remembered: the circuits of one task, at several losses, are held against the
same ones.

What takes long about such a run, learning a ranking and scoring sizes along it, does not depend on
the circuit on trial.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from circuitd.lru import Lru

#: Runs remembered; a ranking takes 4 bytes per node.
_MAX_RUNS: Final = 32


@dataclass(eq=False)
class FreshRun:
    """The ranking that a run learned, int32 [n_nodes] (None: it has not ended yet), how many gates
    it left open, and the loss on the training pairs at each number of nodes tried, nats per side.
    """

    ranking: np.ndarray | None = None
    n_open: int = 0
    losses: dict[int, float] = field(default_factory=dict)


def fresh_runs() -> Lru[FreshRun]:
    """Room for the runs asked for last, by everything that decides them."""
    return Lru(_MAX_RUNS)

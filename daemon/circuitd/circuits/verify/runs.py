"""Fresh prune runs remembered: the circuits of one task, at several losses, are held against the
same ones.

What takes long about such a run, learning a ranking and scoring sizes along it, does not depend on
the circuit on trial.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

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


class FreshRuns:
    """The runs asked for last, by everything that decides them."""

    def __init__(self) -> None:
        self._runs: OrderedDict[Hashable, FreshRun] = OrderedDict()

    def get(self, key: Hashable) -> FreshRun:
        """The run of `key`; one that has yet to be made, if it is not remembered."""
        run = self._runs.setdefault(key, FreshRun())
        self._runs.move_to_end(key)
        if len(self._runs) > _MAX_RUNS:
            self._runs.popitem(last=False)
        return run

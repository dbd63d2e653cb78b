"""What all handlers of a worker share: resident models, held tensors, tasks, circuits, and what was
made for one request and serves the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.verify import FreshRun, fresh_runs
from circuitd.lru import Lru
from circuitd.store.circuits import CircuitStore
from circuitd.store.segments import SegmentDir
from circuitd.tasks.registry import TaskRegistry
from circuitd.worker.models import Models

#: Draws of task prompts kept; one of 256 pairs takes 200 kB.
_DRAWN_MAX: Final = 64
#: Bytes of nodes' values kept; those of one over the shipped text take 256 kB.
SEEN_NBYTES_MAX: Final = 64 << 20


def _drawn() -> Lru[ScoredPrompts]:
    return Lru(_DRAWN_MAX)


def _seen() -> Lru[np.ndarray]:
    return Lru(SEEN_NBYTES_MAX, size=lambda values: values.nbytes)


@dataclass(frozen=True, slots=True)
class Host:
    """The lasting state of one worker process."""

    models: Models
    segments: SegmentDir
    tasks: TaskRegistry
    circuits: CircuitStore
    #: Task prompts. Drawing a few hundred pairs takes as long as running a small circuit on them,
    #: and each edit of a circuit wants the same ones.
    drawn: Lru[ScoredPrompts] = field(default_factory=_drawn)
    #: Nodes' values over pretraining text, float32 [rows, positions]. A pass over it takes seconds,
    #: whether one node is recorded or a circuit's, and who looks at one looks at the next.
    seen: Lru[np.ndarray] = field(default_factory=_seen)
    fresh_runs: Lru[FreshRun] = field(default_factory=fresh_runs)

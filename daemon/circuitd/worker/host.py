"""What all handlers of a worker share: resident models, held tensors, tasks, circuits."""

from __future__ import annotations

from dataclasses import dataclass, field

from circuitd.circuits.verify import FreshRuns
from circuitd.store.circuits import CircuitStore
from circuitd.store.segments import SegmentDir
from circuitd.tasks.registry import TaskRegistry
from circuitd.worker.drawn import Drawn
from circuitd.worker.models import Models
from circuitd.worker.seen import Seen


@dataclass(frozen=True, slots=True)
class Host:
    """The lasting state of one worker process."""

    models: Models
    segments: SegmentDir
    tasks: TaskRegistry
    circuits: CircuitStore
    drawn: Drawn = field(default_factory=Drawn)
    seen: Seen = field(default_factory=Seen)
    fresh_runs: FreshRuns = field(default_factory=FreshRuns)

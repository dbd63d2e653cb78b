"""One circuit before its controls: what it is, what it is tried on, and scores they all need."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from circuit_protocol.circuits import Calibration, Control, PruneSettings, VerifySettings
from circuitd.circuits import calibrate
from circuitd.circuits.ablate import EdgeCut
from circuitd.circuits.problem import Outcome, Problem, Split
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.verify.bootstrap import Bootstrap
from circuitd.circuits.verify.runs import FreshRun, fresh_runs
from circuitd.lru import Lru

T = TypeVar("T")
#: A computation in bounded steps that may say what share (0 to 1) of its work is done.
Shares: TypeAlias = Generator[float | None, None, T]
#: A control while it runs.
Controlling: TypeAlias = Shares[Control]

#: Pairs that are enough where a control scores many node sets: 50 of them on 64 pairs give a mean
#: that is known better than one on 256.
N_FEW_PAIRS = 64


@dataclass(frozen=True, eq=False)
class Trial:
    """A circuit (`kept` BOOL [n_nodes], cut edges, calibration) on trial.

    `problem` holds the pairs to try it on; its pool is what fresh prune runs learn from, with the
    settings `prune`. `target_loss` is the loss it was found for (None: none is known), `seed` the
    one it was found with. `means` [n_nodes] and `text` int64 [N, T], a sample of the pretraining
    distribution, may be missing: then what needs them says so. `runs` may be shared with trials of
    other problems if `grounds` tells the problems apart.
    """

    problem: Problem
    kept: np.ndarray
    cut_edges: tuple[EdgeCut, ...]
    calibration: Calibration | None
    target_loss: float | None
    seed: int
    settings: VerifySettings
    prune: PruneSettings
    means: Tensor | None = None
    text: Tensor | None = None
    runs: Lru[FreshRun] = field(default_factory=fresh_runs)
    grounds: Hashable = None
    _known: dict[tuple[str, Split], Outcome] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Number of nodes."""
        return int(self.kept.sum())

    @property
    def bootstrap(self) -> Bootstrap:
        """The resampling behind every interval."""
        return Bootstrap(self.settings.n_bootstrap, self.settings.seed)

    def few(self, split: Split = "train", n: int = N_FEW_PAIRS) -> ScoredPrompts:
        """The first pairs of a split, for what is scored many times or slowly."""
        prompts = self.problem.prompts(split)
        return prompts.pairs(torch.arange(min(n, len(prompts) // 2)))

    def rng(self, *what: int) -> np.random.Generator:
        """Random numbers that depend on the verification's seed and `what` alone."""
        return np.random.default_rng([self.settings.seed % 2**64, *what])

    def circuit(self, split: Split) -> Shares[Outcome]:
        """The circuit's outcome on all pairs of a split, computed once."""
        key = ("circuit", split)
        if key not in self._known:
            self._known[key] = yield from self.circuit_on(self.problem.prompts(split))
        return self._known[key]

    def whole(self, split: Split) -> Shares[Outcome]:
        """The whole model's outcome likewise."""
        key = ("whole", split)
        if key not in self._known:
            self._known[key] = yield from self.whole_on(self.problem.prompts(split))
        return self._known[key]

    def circuit_on(self, prompts: ScoredPrompts, problem: Problem | None = None) -> Shares[Outcome]:
        """The circuit's outcome on `prompts`, its calibration applied; `problem` may ablate in
        another way.
        """
        problem = problem or self.problem
        outcome = yield from problem.score(self.kept, prompts, self.cut_edges)
        return self.calibrated(outcome)

    def whole_on(self, prompts: ScoredPrompts) -> Shares[Outcome]:
        """The whole model's outcome on `prompts`."""
        return (yield from self.problem.score(np.ones_like(self.kept), prompts))

    def calibrated(self, outcome: Outcome) -> Outcome:
        """An outcome of the circuit's nodes as the circuit's own."""
        if self.calibration is None:
            return outcome
        return Outcome(calibrate.apply(outcome.differences, self.calibration))

    def run(self, *what: str | int) -> FreshRun:
        """The fresh run of the trial's settings that `what` tells from the others."""
        key = (self.grounds, self.prune, *what)
        run = self.runs.get(key)
        return self.runs.keep(key, FreshRun()) if run is None else run

    def limit(self) -> Shares[float]:
        """The loss that others must reach to be called as good: the target, or the circuit's own
        training loss where that is larger or no target is known.
        """
        own = yield from self.circuit("train")
        return max(self.target_loss or 0.0, own.loss)


def distinct_pairs(prompts: ScoredPrompts) -> ScoredPrompts:
    """`prompts` without pairs that have come before: a small file of a user's is drawn from again
    and again, and what is counted twice would make the intervals too narrow.
    """
    assert prompts.answers is not None  # circuits are found for tasks
    n_pairs = len(prompts) // 2
    sides = torch.cat([prompts.lengths[:, None], prompts.answers, prompts.tokens], dim=1).cpu()
    seen: dict[bytes, int] = {}
    for i in range(n_pairs):
        seen.setdefault(sides[[i, i + n_pairs]].numpy().tobytes(), i)
    return prompts if len(seen) == n_pairs else prompts.pairs(torch.tensor(list(seen.values())))


def part_of(steps: Shares[T], part: int, n_parts: int) -> Shares[T]:
    """`steps` as part number `part` of several: their shares become those of the whole."""
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            return end.value
        yield None if share is None else (part + share) / n_parts

"""A task on a network as pruning and verifying see it: prompts, ablation, and the score of a node
set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.ablate import CODES, EdgeCut, Mask, Sweep
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import NodeSpace
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.steps import Steps

Ablation = Literal["mean", "zero", "resample"]
Split = Literal["train", "held_out"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a node set does: `differences` [B], right minus wrong answer's logit of each prompt."""

    differences: Tensor

    @property
    def losses(self) -> Tensor:
        """Two-token loss of each prompt [B], nats."""
        return torch.nn.functional.softplus(-self.differences.double())

    @property
    def loss(self) -> float:
        """Mean loss per side, nats."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """Share of prompts whose right answer has the larger logit; a tie counts half."""
        return float(((self.differences.sign() + 1) / 2).mean())


@dataclass(frozen=True, eq=False)
class Problem:
    """One task, one network, one way to ablate.

    `train` are the fixed pairs a circuit is cut on, `held_out` those it is judged on, `pool` the
    training pairs that learning draws from. `resample_seed` draws which prompt replaces which.
    """

    gated: Gated
    pool: ScoredPrompts
    train: ScoredPrompts
    held_out: ScoredPrompts
    ablation: Ablation
    resample_seed: int = 0

    @property
    def space(self) -> NodeSpace:
        """The numbering of the network's nodes."""
        return self.gated.space

    def prompts(self, split: Split) -> ScoredPrompts:
        """The fixed prompts of a split."""
        return self.train if split == "train" else self.held_out

    def score(
        self,
        kept: np.ndarray,
        prompts: ScoredPrompts,
        cut_edges: tuple[EdgeCut, ...] = (),
    ) -> Steps[Outcome]:
        """The outcome on `prompts` with only `kept` (BOOL [n_nodes]) left unablated."""
        if self.ablation != "resample":
            gates = torch.from_numpy(kept.astype(np.float32))
            return Outcome((yield from self.gated.differences(prompts, gates, cut_edges)))
        mask = Mask(np.where(kept, 0, CODES[self.ablation]).astype(np.uint8), cut_edges)
        sweep = Sweep(
            self.gated.weights,
            prompts,
            mask,
            self.gated.ablated.to(self.gated.weights.device),
            self.resample_seed,
        )
        for scores in sweep.run([mask]):
            if scores is not None:
                assert scores.answered is not None  # these prompts have answers
                answered = scores.answered[0].cpu()
                return Outcome(answered[:, 0] - answered[:, 1])
            yield None
        raise AssertionError("a sweep ended without scores")

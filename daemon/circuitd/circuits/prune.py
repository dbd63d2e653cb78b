"""The published pruning algorithm: learn a gate per node that keeps the task and few nodes.

Gao et al., "Weight-sparse transformers have interpretable circuits", A.5 (FACTS 3): one number tau
per node, clamped to [-1, 1]; gate H(tau); closed nodes at their ablated value; loss = two-token
cross-entropy (mean per side) + k_coef * number of open gates; AdamW with gradient clipping, the
learning rate warmed up and then linearly decayed to zero.

The state is a few vectors, and a step is a function of the state, the seed and its own number
alone: a run that is stopped and resumed ends in the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from circuit_protocol.circuits import PruneSettings, PruneStep
from circuitd.circuits.gated import Gated, GateGradient
from circuitd.circuits.gates import open_gates, surrogate_slope
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.steps import Steps

#: The mean of tau that breaks ties runs over this last share of the steps.
TAIL_SHARE = 0.25


@dataclass(eq=False)
class Pruner:
    """Learns the gates of one task with one seed.

    `pool` are training pairs, from which each step draws its batch.
    """

    gated: Gated
    pool: ScoredPrompts
    settings: PruneSettings
    seed: int
    #: Steps done.
    step: int = 0
    curve: list[PruneStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings, n_nodes = self.settings, self.gated.space.n_nodes
        noise = torch.from_numpy(self._generator("init").standard_normal(n_nodes)).float()
        tau = settings.init_noise_bias + settings.init_noise_scale * noise
        self.tau = tau.clamp_(-1, 1)
        self._first_moment = torch.zeros(n_nodes)
        self._second_moment = torch.zeros(n_nodes)
        self._tail_sum = torch.zeros(n_nodes)

    @property
    def n_open(self) -> int:
        """Number of open gates."""
        return int(self._gates().sum())

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.settings.n_steps

    def advance(self) -> Steps[PruneStep]:
        """Do one step; its loss (before the step's update) and the number of gates then open.

        Yields within the step, where nothing has changed yet: a run may be stopped there.
        """
        settings = self.settings
        found = yield from self._gradient()
        here = PruneStep(step=self.step, loss=found.loss, k=self.n_open)
        slope = surrogate_slope(self.tau, settings.heaviside_temp)
        gradient = (found.gradient + settings.k_coef) * slope
        if settings.clip_norm is not None:
            norm = float(gradient.norm())
            gradient *= min(1.0, settings.clip_norm / max(norm, 1e-12))
        self._adamw(gradient, self._learning_rate())
        self.tau.clamp_(-1, 1)
        self.step += 1
        if self.step > settings.n_steps * (1 - TAIL_SHARE):
            self._tail_sum += self.tau
        self.curve.append(here)
        return here

    def ranking(self) -> np.ndarray:
        """All nodes, the one to keep first in front: int64 [n_nodes].

        By tau; many end tied at its clamp, and those are ordered by its mean over the last
        steps (a node that was pulled down on the way is needed less), or left in node order.
        """
        tau = self.tau.numpy()
        tail = self._tail_sum.numpy() if self.settings.rank_by == "mean_tau" else np.zeros_like(tau)
        return np.lexsort((np.arange(len(tau)), -tail, -tau))

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors."""
        curve = [[float(p.step), p.loss, float(p.k)] for p in self.curve]
        return {
            "tau": self.tau.clone(),
            "first_moment": self._first_moment.clone(),
            "second_moment": self._second_moment.clone(),
            "tail_sum": self._tail_sum.clone(),
            "step": torch.tensor(self.step),
            "curve": torch.tensor(curve, dtype=torch.float64).reshape(-1, 3),
        }

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state` of the same run."""
        self.tau = state["tau"].clone()
        self._first_moment = state["first_moment"].clone()
        self._second_moment = state["second_moment"].clone()
        self._tail_sum = state["tail_sum"].clone()
        self.step = int(state["step"])
        self.curve = [
            PruneStep(step=int(step), loss=loss, k=int(k))
            for step, loss, k in state["curve"].tolist()
        ]

    def _gradient(self) -> Steps[GateGradient]:
        settings = self.settings
        draw = self._generator("batch", self.step)
        n_pairs = len(self.pool) // 2
        n = min(settings.n_pairs_per_step, n_pairs)
        chosen = torch.from_numpy(draw.choice(n_pairs, n, replace=False))
        gates = self._gates()
        if settings.stochastic_rest:
            left_in = torch.from_numpy(draw.random(len(gates)) < settings.stochastic_rest)
            gates = torch.where(left_in, 1.0, gates)
        return (yield from self.gated.gradient(self.pool.pairs(chosen), gates))

    def _gates(self) -> Tensor:
        return open_gates(self.tau, self.settings.open_at_zero)

    def _learning_rate(self) -> float:
        settings = self.settings
        n_warm_up = settings.lr_warm_up * settings.n_steps
        warm_up = min(1.0, (self.step + 1) / n_warm_up) if n_warm_up else 1.0
        return settings.lr * warm_up * (1 - self.step / settings.n_steps)

    def _adamw(self, gradient: Tensor, lr: float) -> None:
        """One step of AdamW (decoupled decay, bias-corrected), written out: its state is ours."""
        s, n = self.settings, self.step + 1
        self.tau *= 1 - lr * s.weight_decay
        self._first_moment.lerp_(gradient, 1 - s.beta1)
        self._second_moment.lerp_(gradient.square(), 1 - s.beta2)
        mean = self._first_moment / (1 - s.beta1**n)
        scale = (self._second_moment / (1 - s.beta2**n)).sqrt() + 1e-8
        self.tau -= lr * mean / scale

    def _generator(self, *what: str | int) -> np.random.Generator:
        """Random numbers that depend on the seed and `what` alone."""
        words = [self.seed % 2**64, *(sum(map(ord, w)) if isinstance(w, str) else w for w in what)]
        return np.random.default_rng(words)

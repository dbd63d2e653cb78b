"""The network with a gate on every node: a task's loss under it, and its gradient by the gates.

A node's value becomes gate * value + (1 - gate) * ablated value, one ablated value per node
(pretraining mean or zero). Gradients of weights are never computed. Where the sparse kernels cover
the network and device they do the work; elsewhere the engine and autograd do. Both mean the same,
and a test holds them to it.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.ablate import EdgeCut, Mask
from circuitd.circuits.edge_places import edge_places
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.scoring import answer_logits, two_token_losses
from circuitd.engine.cuts import Cut
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Gate
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.lanes.layout import why_not
from circuitd.engine.steps import Steps
from circuitd.engine.weights import Weights

if TYPE_CHECKING:
    from circuitd.circuits.variants import Variants
    from circuitd.engine.sparse.compiled.prompts import LaidPrompts
    from circuitd.engine.sparse.lanes.execute import Blocks

#: Rows of one forward and backward pass through the engine: bounds memory and a step's time.
ROWS_PER_PASS = 16


@dataclass(frozen=True, eq=False)
class GateGradient:
    """Mean loss over the rows in nats, and its gradient by gate [n_nodes], float32."""

    loss: float
    gradient: Tensor


class Gated:
    """One network and the ablated value of each of its nodes, `ablated` [n_nodes].

    `sparse` False keeps it off the sparse kernels (`execution` says which runs, and why).
    """

    def __init__(
        self,
        weights: Weights,
        ablated: Tensor,
        *,
        sparse: bool = True,
    ) -> None:
        self.weights = weights
        self.space = node_space(weights.config)
        self.ablated = ablated.detach().float().cpu()
        reason = why_not(weights) if sparse else "it was asked for"
        self._sparse = _SparseGated(weights) if reason is None else None
        is_sparse = reason is None or weights.multiplies_nonzeros
        self.execution = "sparse" if is_sparse else f"dense, since {reason}"

    def holding(self, ablated: Tensor) -> Gated:
        """The same network with other ablated values [n_nodes]; they share the sparse layout."""
        other = copy.copy(self)
        other.ablated = ablated.detach().float().cpu()
        return other

    def differences(
        self, prompts: ScoredPrompts, gates: Tensor, cuts: Sequence[EdgeCut] = ()
    ) -> Steps[Tensor]:
        """Right minus wrong answer's logit of each row [B] under `gates` [n_nodes]. Along edges
        that are cut flows the source's ablated value.
        """
        if self._sparse is not None:
            return (yield from self._sparse.differences(prompts, gates, self.ablated, cuts))
        found = torch.empty(len(prompts))
        for rows in prompts.passes(ROWS_PER_PASS):
            with torch.inference_mode():
                answered = self._answered(prompts.rows(rows), gates, cuts)
            found[rows] = (answered[:, 0] - answered[:, 1]).cpu()
            yield None
        return found

    def variants(self, prompts: ScoredPrompts, base: Mask) -> Variants | None:
        """Scoring of masks against `base`, each from where it differs on; None where the sparse
        kernels do not run.
        """
        if self._sparse is None:
            return None
        return self._sparse.variants(prompts, base, self.ablated)

    def gradient(self, prompts: ScoredPrompts, gates: Tensor) -> Steps[GateGradient]:
        """Mean two-token loss of `prompts` and its gradient by `gates` [n_nodes]."""
        if self._sparse is not None:
            return (yield from self._sparse.gradient(prompts, gates, self.ablated))
        total = 0.0
        leaf = gates.detach().to(self.weights.device, self.weights.dtype).requires_grad_()
        for rows in prompts.passes(ROWS_PER_PASS):
            losses = two_token_losses(self._answered(prompts.rows(rows), leaf))
            loss = losses.sum() / len(prompts)
            loss.backward()
            total += float(loss.detach())
            yield None
        assert leaf.grad is not None  # every pass has gone through the gates
        return GateGradient(total, leaf.grad.float().cpu())

    def _answered(
        self, prompts: ScoredPrompts, gates: Tensor, cuts: Sequence[EdgeCut] = ()
    ) -> Tensor:
        """Logits [B, 2] of right and wrong answer, through the engine."""
        assert prompts.answers is not None  # circuits are found for tasks
        gates = gates.to(self.weights.device, self.weights.dtype)
        ablated = self.ablated.to(self.weights.device, self.weights.dtype)
        spans = [(site.name, self.space.span(site.name)) for site in self.space.sites]
        plan = Plan(
            interventions=tuple(Gate(name, gates[span], ablated[span]) for name, span in spans),
            cuts=tuple(self._cut(cut) for cut in cuts),
            logits="last",
            lengths=prompts.lengths,
        )
        logits = forward(self.weights, prompts.tokens, plan).logits
        assert logits is not None  # the plan asked for the last position's
        return answer_logits(logits, prompts.answers.to(logits.device))

    def _cut(self, cut: EdgeCut) -> Cut:
        node = self.space.nodes(cut.source, [cut.source_channel])[0]
        channels = (cut.source_channel, cut.target_channel)
        return Cut(cut.source, cut.target, *channels, fill=float(self.ablated[node]))


class _SparseGated:
    """The sparse kernels behind the same questions; remembers how fixed prompts are laid out."""

    def __init__(self, weights: Weights) -> None:
        # The compiled kernels take seconds to load the first time: only when they are wanted.
        from circuitd.engine.sparse.lanes.execute import Blocks, SparseNetwork

        self._config = weights.config
        self._network = SparseNetwork(weights)
        self._pack = Blocks.pack
        self._packed: weakref.WeakKeyDictionary[ScoredPrompts, Blocks] = weakref.WeakKeyDictionary()
        self._laid: weakref.WeakKeyDictionary[ScoredPrompts, LaidPrompts] = (
            weakref.WeakKeyDictionary()
        )

    def differences(
        self, prompts: ScoredPrompts, gates: Tensor, ablated: Tensor, cuts: Sequence[EdgeCut]
    ) -> Steps[Tensor]:
        places = self._network.cuts(*edge_places(self._config, ablated.numpy(), cuts))
        kept = gates.numpy() == 1
        is_circuit = not ((gates != 0) & (gates != 1)).any()
        if is_circuit and self._network.is_worth_compiling(kept):
            laid = self._lay(prompts)
            compiled = yield from self._network.compiled(laid, kept, ablated.numpy())
            found = yield from compiled.differences(places)
        else:
            blocks = self._blocks(prompts)
            found = yield from self._network.differences(
                blocks, gates.numpy(), ablated.numpy(), places
            )
        return torch.from_numpy(found)

    def gradient(
        self, prompts: ScoredPrompts, gates: Tensor, ablated: Tensor
    ) -> Steps[GateGradient]:
        blocks = self._blocks(prompts)
        found, gradient = yield from self._network.gradient(blocks, gates.numpy(), ablated.numpy())
        losses = np.logaddexp(0.0, -found.astype(np.float64))
        return GateGradient(float(losses.mean()), torch.from_numpy(gradient) / len(prompts))

    def variants(self, prompts: ScoredPrompts, base: Mask, ablated: Tensor) -> Variants:
        from circuitd.circuits.variants import Variants, kept_by

        is_small = self._network.is_worth_compiling(kept_by(base))
        laid = self._lay(prompts) if is_small else self._blocks(prompts)
        return Variants(self._network, self._config, laid, ablated, base)

    def _lay(self, prompts: ScoredPrompts) -> LaidPrompts:
        if prompts not in self._laid:
            assert prompts.answers is not None  # circuits are found for tasks
            self._laid[prompts] = self._network.lay(
                prompts.tokens, prompts.lengths, prompts.answers
            )
        return self._laid[prompts]

    def _blocks(self, prompts: ScoredPrompts) -> Blocks:
        if prompts not in self._packed:
            assert prompts.answers is not None  # circuits are found for tasks
            self._packed[prompts] = self._pack(prompts.tokens, prompts.lengths, prompts.answers)
        return self._packed[prompts]

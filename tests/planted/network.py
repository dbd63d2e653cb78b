"""What a planted network is: weights, a task, and the truth about the two."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.means import pretraining_means
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.config import GPTConfig
from circuitd.engine.weights import Weights
from circuitd.tasks.batch import TaskBatch


@dataclass(frozen=True, order=True)
class Edge:
    """One weight: from a channel of one node site to a channel of another."""

    source: str
    source_channel: int
    target: str
    target_channel: int


@dataclass(frozen=True, eq=False)
class Planted:
    """A network with its task and its circuit.

    `nodes` are the true nodes, channels by site (sites without any are left out). `edges` are the
    nonzero weights between them by the counting rule (FACTS 1); `causal_edges` are those without
    which the task fails, the others carry nothing that matters. `text` int64 [N, T] stands for the
    pretraining distribution: the means of ablated nodes are taken over it.
    """

    config: GPTConfig
    state: dict[str, Tensor]
    train: TaskBatch
    held_out: TaskBatch
    text: Tensor
    nodes: dict[str, tuple[int, ...]]
    same_in_all_prompts: frozenset[tuple[str, int]]
    edges: frozenset[Edge]
    causal_edges: frozenset[Edge]

    @functools.cached_property
    def weights(self) -> Weights:
        """The network, ready to run."""
        return Weights.from_state(self.config, self.state)

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """BOOL [n_nodes], True for the true nodes."""
        return node_space(self.config).mask(self.nodes.items())

    @functools.cached_property
    def means(self) -> Tensor:
        """Mean of every node over `text`, float32 [n_nodes]."""
        by_site = pretraining_means(self.weights, [self.text])
        return torch.cat([by_site[site.name] for site in node_space(self.config).sites])


def scored(batch: TaskBatch) -> ScoredPrompts:
    """The prompts of a batch and, per row, its right and its wrong answer."""
    return ScoredPrompts(
        torch.from_numpy(batch.tokens),
        torch.from_numpy(batch.lengths),
        answers=torch.from_numpy(np.stack([batch.right, batch.wrong], axis=1)),
    )

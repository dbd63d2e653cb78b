"""What everything is measured on: a model with its means, and a task's fixed pairs.

The same pairs, drawn once per task, serve every method, target and model: both twins have one
tokenizer and one vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from circuitd.circuits.edges import edges_between
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.weights import Weights
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.pretraining_sample import read_pretraining_sample
from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.registry import TaskRegistry
from circuitd.tasks.words import Split
from circuitd.worker.models import read_means
from training.reproduction.records import ModelFacts

DATA = Path(__file__).parents[2] / "data"
#: Pairs that circuits are cut on, those they are judged on (half of what `circuit prune` takes:
#: there are hundreds of cuts), and those that gates are learned from.
N_PAIRS, N_HELD_OUT_PAIRS, N_POOL_PAIRS = 128, 128, 1024
DATA_SEED = 0


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that circuits are found in; `text` int64 [N, T] is a sample of its pretraining."""

    name: str
    model_hash: str
    gated: Gated
    tokenizer: Tokenizer
    text: torch.Tensor

    @property
    def weights(self) -> Weights:
        """The network."""
        return self.gated.weights

    @property
    def facts(self) -> ModelFacts:
        """What the page says of the model."""
        config = self.weights.config
        everything = np.ones(self.gated.space.n_nodes, bool)
        return ModelFacts(
            name=self.name,
            model_hash=self.model_hash,
            n_layer=config.n_layer,
            d_model=config.d_model,
            d_mlp=config.d_mlp,
            n_nodes=self.gated.space.n_nodes,
            n_block_weights=sum(map(len, edges_between(self.weights, everything))),
            execution=self.gated.execution,
        )


def load(name: str, data: Path = DATA) -> Subject:
    """The model `data/models/name`. Raises `CheckpointError`, and NotFound without a sample.

    Raises ValueError for a model without means.
    """
    directory = data / "models" / name
    loaded = load_checkpoint(directory)
    means = read_means(loaded.weights, directory)
    if means is None:
        raise ValueError(f"{name} has no pretraining means: run training.means")
    ablated = torch.cat([means[site.name] for site in node_space(loaded.config).sites])
    return Subject(
        name,
        loaded.model_hash,
        Gated(loaded.weights, ablated),
        Tokenizer.load(data / "tinypython"),
        torch.from_numpy(read_pretraining_sample(directory)),
    )


def prompts_of(subject: Subject, task: str, split: Split, n: int, seed: int) -> ScoredPrompts:
    """`n` pairs of a task, 2n rows. Raises TaskError."""
    batch = TaskRegistry().get(task).sample(subject.tokenizer, split, n, seed)
    answers = torch.from_numpy(batch.answers)
    return ScoredPrompts(
        torch.from_numpy(batch.tokens),
        torch.from_numpy(batch.lengths),
        torch.cat([answers, answers.flip(1)]),
    )


def problem_of(subject: Subject, task: str) -> Problem:
    """A task on a model, nodes ablated to their means. Raises TaskError."""
    return Problem(
        gated=subject.gated,
        pool=prompts_of(subject, task, "train", N_POOL_PAIRS, DATA_SEED + 1),
        train=prompts_of(subject, task, "train", N_PAIRS, DATA_SEED),
        held_out=prompts_of(subject, task, "held_out", N_HELD_OUT_PAIRS, DATA_SEED),
        ablation="mean",
        resample_seed=DATA_SEED,
    )


def fitted(problem: Problem, n_pairs: int) -> Problem:
    """`problem` learned from, cut on and judged on the same first `n_pairs` training pairs."""
    few = problem.train.pairs(torch.arange(n_pairs))
    return replace(problem, pool=few, train=few, held_out=few)

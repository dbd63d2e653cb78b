"""Nonsense: tasks without a rule, for which no honest circuit exists; any model may be given them.

They are what the nulls of a verification must see through: a circuit may fit the prompts it was
found on, but says nothing about the held-out ones, as there is nothing to say.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from circuitd.tasks.batch import TaskBatch, TokenPair, stack_pairs
from circuitd.tasks.words import Split


def nonsense_task(
    vocab_size: int, n_pairs: int, n_positions: int, seed: int, split: Split = "train"
) -> TaskBatch:
    """Pairs of unrelated random prompts with the same two answers; which is right is drawn, too.

    The answers belong to `seed`; prompts of another split are new ones.
    """
    first, second = np.random.default_rng(seed).choice(vocab_size, 2, replace=False).tolist()
    rng = np.random.default_rng([seed, split == "held_out"])
    prompts = rng.integers(vocab_size, size=(n_pairs, 2, n_positions)).tolist()
    pairs = [TokenPair((one, other), (first, second)) for one, other in prompts]
    return stack_pairs(pairs, "nonsense", split)


def shuffled_labels(batch: TaskBatch, seed: int) -> TaskBatch:
    """The same prompts; in half of the pairs, drawn at random, the two answers change places."""
    chosen = np.random.default_rng(seed).permutation(batch.n)[: batch.n // 2]
    answers = batch.answers.copy()
    answers[chosen] = answers[chosen, ::-1]
    return dataclasses.replace(batch, task=f"{batch.task}_shuffled", answers=answers)

"""Tokenised pairs of a task: the arrays a model is run on, and the check a pair must pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.errors import TaskError
from circuitd.tasks.words import Split


@dataclass(frozen=True)
class TokenPair:
    """Two prompts as token ids and the right next token of each; each is the other's wrong one."""

    prompts: tuple[list[int], list[int]]
    answers: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """n pairs as arrays; rows i and i + n are the two sides of pair i.

    `tokens` int64 [2n, T], right-padded with 0; `lengths` int64 [2n]; `answers` int64 [n, 2], where
    column 0 is right for row i and column 1 for row i + n. `target_form` is the surface form of the
    two answers, for a task that offers several (empty for a user's task).
    """

    task: str
    split: Split
    tokens: np.ndarray
    lengths: np.ndarray
    answers: np.ndarray
    target_form: str = ""

    def __post_init__(self) -> None:
        n = len(self.answers)
        if self.tokens.ndim != 2 or len(self.tokens) != 2 * n:
            raise ValueError(f"{n} answer pairs need {2 * n} rows, got {self.tokens.shape}")
        if self.answers.shape != (n, 2) or self.lengths.shape != (2 * n,):
            raise ValueError(
                f"{n} pairs do not fit answers {self.answers.shape}, lengths {self.lengths.shape}"
            )

    @property
    def n(self) -> int:
        """The number of pairs."""
        return len(self.answers)

    @property
    def right(self) -> np.ndarray:
        """The right token of each row, int64 [2n]."""
        return np.concatenate([self.answers[:, 0], self.answers[:, 1]])

    @property
    def wrong(self) -> np.ndarray:
        """The other side's token for each row, int64 [2n]."""
        return np.concatenate([self.answers[:, 1], self.answers[:, 0]])


def stack_pairs(
    pairs: Sequence[TokenPair], task: str, split: Split, target_form: str = ""
) -> TaskBatch:
    """Pad the pairs into one batch of as many columns as the longest prompt has tokens."""
    rows = [pair.prompts[0] for pair in pairs] + [pair.prompts[1] for pair in pairs]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    tokens = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    answers = np.array([pair.answers for pair in pairs], dtype=np.int64).reshape(-1, 2)
    return TaskBatch(task, split, tokens, lengths, answers, target_form)


def tokenise_side(
    tokenizer: Tokenizer, prompt: str, target: str, completion: str = ""
) -> tuple[list[int], int]:
    """Token ids of a prompt and its one-token target.

    The target must be what the tokenizer itself puts next: the tokens of prompt + target are those
    of the prompt and one more; with a `completion` (which starts with the target), the tokens of
    prompt + completion start with the same ones. Raises TaskError saying what the text splits into.
    """
    target_id = tokenizer.single_token(target)
    if target_id is None:
        raise TaskError(
            f"target {target!r} is not one token, it splits into {_spell(tokenizer, target)}",
            field="targets",
            found=repr(target),
            advice="choose a target that is one token of this tokenizer, or give token ids",
        )
    prompt_ids = tokenizer.encode(prompt)
    expected = [*prompt_ids, target_id]
    for text in (prompt + target, prompt + completion):
        if len(text) > len(prompt) and tokenizer.encode(text)[: len(expected)] != expected:
            raise TaskError(
                f"target {target!r} merges with its surroundings: {text[-40:]!r} ends in the "
                f"tokens {_spell(tokenizer, text[-40:])}",
                field="targets",
                found=repr(target),
                advice="end the prompt at a token boundary, or choose the token the text has there",
            )
    return prompt_ids, target_id


def _spell(tokenizer: Tokenizer, text: str) -> str:
    return " ".join(repr(tokenizer.decode([token_id])) for token_id in tokenizer.encode(text))

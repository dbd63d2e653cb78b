"""Prompts, targets and answers of a request as tensors for the engine, checked with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from circuit_protocol.errors import BadShape, BadTokens, InvalidRequest
from circuit_protocol.interventions import Values
from circuit_protocol.limits import INTEGERS, check_tensor
from circuit_protocol.requests import Input, Prompts, TaskInput
from circuit_protocol.tensors import Tensor
from circuitd.engine.config import GPTConfig
from circuitd.worker.context import Context
from circuitd.worker.output import Parcel


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded prompts: `tokens` int64 [B, T] with 0 in the padding, `lengths` int64 [B].

    `answers` int64 [B, 2] are the right and the wrong next token of each row, `targets` int64
    [B, T] what each position is scored by (-1: not at all); either may be missing.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    answers: torch.Tensor | None = None
    targets: torch.Tensor | None = None

    @property
    def n_rows(self) -> int:
        """B."""
        return self.tokens.shape[0]

    @property
    def n_positions(self) -> int:
        """T."""
        return self.tokens.shape[1]

    @property
    def is_ragged(self) -> bool:
        """Whether any row has padding."""
        return bool((self.lengths != self.n_positions).any())

    @property
    def plan_lengths(self) -> torch.Tensor | None:
        """`lengths` as a plan wants them: None without padding."""
        return self.lengths if self.is_ragged else None

    def rows(self, chosen: slice) -> Batch:
        """Some of the rows, with as much padding as before."""
        if chosen == slice(0, self.n_rows):
            return self
        return Batch(
            self.tokens[chosen],
            self.lengths[chosen],
            None if self.answers is None else self.answers[chosen],
            None if self.targets is None else self.targets[chosen],
        )

    def real(self) -> torch.Tensor:
        """True at tokens that are not padding: bool [B, T]."""
        return torch.arange(self.n_positions) < self.lengths[:, None]

    def put(self, parcel: Parcel) -> tuple[Tensor, Tensor]:
        """Token ids and lengths for a reply, as I32."""
        return parcel.put(self.tokens.int()), parcel.put(self.lengths.int())


def read_input(context: Context, given: Input, config: GPTConfig) -> Batch:
    """The rows of a task, or the client's own prompts with their answers or targets."""
    if isinstance(given, TaskInput):
        return _task_batch(context, given, config)
    batch = read_prompts(context, given.prompts, config)
    answers = targets = None
    if given.answers is not None:
        answers = _integers(context, given.answers, "answers", (batch.n_rows, 2))
        _check_ids(answers, config, "answers")
    if given.targets is not None:
        targets = read_targets(context, given.targets, batch, config)
    return Batch(batch.tokens, batch.lengths, answers, targets)


def read_prompts(context: Context, prompts: Prompts, config: GPTConfig) -> Batch:
    """Texts or token ids as a batch. Raises BadTokens, BadShape, InvalidRequest, NotFound."""
    if (prompts.texts is None) == (prompts.tokens is None):
        raise InvalidRequest("prompts are either `texts` or `tokens`, and one of them is needed")
    if prompts.tokens is None:
        assert prompts.texts is not None  # by the check above
        if prompts.lengths is not None:
            raise InvalidRequest("`lengths` go with `tokens`; texts have their own")
        tokenizer = context.model.tokenizer
        return stack([tokenizer.encode(text) for text in prompts.texts], config)
    tokens = _integers(context, prompts.tokens, "tokens", (None, None))
    n_rows, n_positions = tokens.shape
    if n_rows == 0 or n_positions == 0:
        raise BadTokens("the batch is empty", asked=f"tokens {list(tokens.shape)}")
    if prompts.lengths is None:
        lengths = torch.full((n_rows,), n_positions)
    else:
        lengths = _lengths(prompts.lengths, n_rows, n_positions)
        tokens = torch.where(torch.arange(n_positions) < lengths[:, None], tokens, 0)
    _check_lengths(lengths, n_positions, config)
    _check_ids(tokens, config, "tokens")
    return Batch(tokens, lengths)


def stack(rows: Sequence[Sequence[int]], config: GPTConfig) -> Batch:
    """Rows of token ids, padded to the longest. Raises BadTokens for no, empty or too long rows."""
    if not rows:
        raise BadTokens("the batch is empty")
    if empty := [i for i, row in enumerate(rows) if not row]:
        raise BadTokens(
            "a prompt is empty", asked=f"row {empty[0]}", hint="Give at least one token"
        )
    lengths = torch.tensor([len(row) for row in rows])
    _check_lengths(lengths, int(lengths.max()), config)
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    _check_ids(tokens, config, "tokens")
    return Batch(tokens, lengths)


def read_targets(
    context: Context, given: Values | str, batch: Batch, config: GPTConfig
) -> torch.Tensor:
    """Targets int64 [B, T]: the prompt's own next tokens for "next", else those given.

    Raises BadTokens when no position has a target, since their mean would be no number.
    """
    if isinstance(given, str):
        targets = torch.full_like(batch.tokens, -1)
        targets[:, :-1] = batch.tokens[:, 1:]
    else:
        targets = _integers(context, given, "targets", tuple(batch.tokens.shape))
        low, high = int(targets.min()), int(targets.max())
        if low < -1 or high >= config.vocab_size:
            raise BadTokens(
                "targets are outside the vocabulary",
                found=f"{low} to {high}",
                hint=f"Targets are 0 to {config.vocab_size - 1}, or -1 for none",
            )
    # The token after the last one is not known; padding is nobody's target.
    last = 1 if isinstance(given, str) else 0
    counts = torch.arange(batch.n_positions) < (batch.lengths - last)[:, None]
    targets = torch.where(counts, targets, -1)
    if not bool((targets >= 0).any()):
        raise BadTokens(
            "no position has a target", hint="A prompt of one token has no next token to score"
        )
    return targets


def _task_batch(context: Context, given: TaskInput, config: GPTConfig) -> Batch:
    task = context.host.tasks.get(given.task)
    sample = task.sample(context.model.tokenizer, given.split, given.n, given.seed)
    lengths = torch.from_numpy(sample.lengths)
    _check_lengths(lengths, int(lengths.max()), config)
    answers = np.stack([sample.right, sample.wrong], axis=1)
    _check_ids(torch.from_numpy(answers), config, "answers")
    _check_ids(torch.from_numpy(sample.tokens), config, "tokens")
    return Batch(
        torch.from_numpy(sample.tokens),
        lengths,
        answers=torch.from_numpy(answers),
    )


def _integers(
    context: Context, given: Values, name: str, shape: tuple[int | None, ...]
) -> torch.Tensor:
    check_tensor(given, name, shape=shape, dtypes=INTEGERS)
    array = context.array(given)
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise BadTokens(f"{name} hold a number beyond 2**63", found=str(int(array.max())))
    return torch.from_numpy(array.astype(np.int64))


def _lengths(given: Sequence[int], n_rows: int, n_positions: int) -> torch.Tensor:
    if len(given) != n_rows:
        raise BadShape("there must be one length per row", asked=str(len(given)), found=str(n_rows))
    if wrong := [i for i, length in enumerate(given) if not 1 <= length <= n_positions]:
        raise BadTokens(
            "a length does not fit its row",
            asked=f"row {wrong[0]}: {given[wrong[0]]}",
            hint=f"Lengths are 1 to {n_positions}",
        )
    return torch.tensor(given)


def _check_lengths(lengths: torch.Tensor, n_tokens: int, config: GPTConfig) -> None:
    """Refuse prompts of `n_tokens` positions (padding counts too) beyond the context."""
    if n_tokens > config.block_size:
        raise BadTokens(
            "a prompt is longer than the model's context",
            asked=f"row {int(lengths.argmax())} has {n_tokens} tokens",
            found=f"a context of {config.block_size}",
            hint=f"Shorten it by {n_tokens - config.block_size} tokens",
        )


def _check_ids(tokens: torch.Tensor, config: GPTConfig, name: str) -> None:
    low, high = tokens.aminmax()
    if int(low) < 0 or int(high) >= config.vocab_size:
        outside = (tokens < 0) | (tokens >= config.vocab_size)
        row, column = (int(i) for i in outside.nonzero()[0])
        raise BadTokens(
            f"{name} hold an id outside the vocabulary",
            asked=f"{int(tokens[row, column])} at row {row}, column {column}",
            hint=f"Ids are 0 to {config.vocab_size - 1}",
        )

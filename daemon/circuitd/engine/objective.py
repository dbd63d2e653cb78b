"""Objectives: the numbers that are reported as losses and those that gradients are taken of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine.errors import TokenError
from circuitd.engine.plan import LogitDifference, TwoTokenLoss
from circuitd.engine.precision import wide
from circuitd.engine.window import Window


def last_positions(window: Window) -> Tensor:
    """Each row's last real position, int64 [B]."""
    if window.lengths is None:
        last = window.n_positions - 1
        return torch.full((window.n_rows,), last, dtype=torch.int64, device=window.device)
    return window.index(list(window.lengths)) - 1


def cross_entropy(logits: Tensor, targets: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Per-token loss [B, T] (0 where it does not count) and its mean over targets that count.

    A target of -1 does not count, nor does one in a row's padding. Raises `TokenError` when none
    counts, because their mean is no number.
    """
    targets = window.tensor(targets, torch.int64)
    real = window.real_mask()
    if real is not None:
        targets = torch.where(real, targets, -1)
    n_counted = int((targets >= 0).sum())
    if n_counted == 0:
        raise TokenError("loss over the targets", "none of them counts", "all are -1 or padding")
    losses = F.cross_entropy(
        wide(logits).flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
    )
    return losses.view(targets.shape), losses.sum() / n_counted


def objective_positions(of: LogitDifference | TwoTokenLoss, window: Window) -> Tensor:
    """Where the objective reads each row's logits, int64 [B].

    Raises `TokenError` for a position that a row does not have.
    """
    last = last_positions(window)
    if of.position is None:
        return last
    at = last + 1 + of.position if of.position < 0 else torch.full_like(last, of.position)
    if bool(((at < 0) | (at > last)).any()):
        raise TokenError(
            f"objective at position {of.position}",
            "a row has no such token",
            f"the rows' last positions are {sorted(set(last.tolist()))}",
        )
    return at


def row_objective(of: LogitDifference | TwoTokenLoss, logits: Tensor, window: Window) -> Tensor:
    """The objective of each row, float32 [B], from its logits [B, V] at the position in question.

    Raises `TokenError` for token ids outside the vocabulary.
    """
    logits = wide(logits)
    if isinstance(of, LogitDifference):
        return _logit(logits, of.a, window) - _logit(logits, of.b, window)
    # Cross-entropy over two logits: log(1 + exp(wrong - right)).
    return F.softplus(_logit(logits, of.wrong, window) - _logit(logits, of.right, window))


def _logit(logits: Tensor, ids: Tensor | int, window: Window) -> Tensor:
    n_rows, n_tokens = logits.shape
    given = torch.as_tensor(ids)
    if given.ndim > 1 or (given.ndim == 1 and given.shape[0] != n_rows):
        raise TokenError(
            f"objective tokens of shape {list(given.shape)}",
            f"there are {n_rows} rows",
            f"one token id, or [{n_rows}]",
        )
    low, high = (int(bound) for bound in given.aminmax())
    if low < 0 or high >= n_tokens:
        raise TokenError(
            f"objective tokens {low}..{high}", "outside the vocabulary", f"0..{n_tokens - 1}"
        )
    columns = window.tensor(given, torch.int64).expand(n_rows)
    return logits.gather(1, columns[:, None])[:, 0]

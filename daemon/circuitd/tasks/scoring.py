"""Loss and accuracy of a task from the logits at each prompt's last position, in numpy.

The loss of a side is the cross-entropy over only the two answer tokens' logits, so chance is ln 2;
the loss of a task is the mean per side (not the sum of both that the public toolkit stores).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuitd.tasks.batch import TaskBatch


@dataclass(frozen=True, eq=False)
class TaskScore:
    """Scores of a batch: `loss` and `row_loss` (float64 [2n]) in nats, `accuracy` in 0..1."""

    loss: float
    accuracy: float
    row_loss: np.ndarray


def answer_logits(last_logits: np.ndarray, batch: TaskBatch) -> np.ndarray:
    """Gather (right, wrong) logits, float64 [2n, 2], from the last positions' logits [2n, V]."""
    n_rows = 2 * batch.n
    if last_logits.ndim != 2 or len(last_logits) != n_rows:
        raise ValueError(f"expected logits [{n_rows}, V], got {last_logits.shape}")
    rows = np.arange(n_rows)
    pair = np.stack([last_logits[rows, batch.right], last_logits[rows, batch.wrong]], axis=1)
    return pair.astype(np.float64)


def two_token_loss(right_wrong: np.ndarray) -> np.ndarray:
    """Cross-entropy in nats, float64 [rows], of (right, wrong) logits [rows, 2]."""
    right_wrong = np.asarray(right_wrong, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # a NaN logit is a NaN loss, for the caller to report
        return np.logaddexp(0.0, right_wrong[:, 1] - right_wrong[:, 0])


def two_token_accuracy(right_wrong: np.ndarray) -> float:
    """Share of rows whose right logit is the larger; a tie counts half, a NaN counts as wrong."""
    right, wrong = right_wrong[:, 0], right_wrong[:, 1]
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))


def score(last_logits: np.ndarray, batch: TaskBatch) -> TaskScore:
    """Score the logits [2n, V] at each row's last position (`lengths - 1`)."""
    right_wrong = answer_logits(last_logits, batch)
    row_loss = two_token_loss(right_wrong)
    return TaskScore(float(row_loss.mean()), two_token_accuracy(right_wrong), row_loss)

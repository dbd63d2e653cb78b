"""Scores of last-position logits on two answers: cross-entropy over only those two, and accuracy.

The mean over rows is the mean per side everywhere in circuitd (FACTS 2): the published files store
the sum of the two sides, so theirs are twice ours.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def answer_logits(logits: Tensor, answers: Tensor) -> Tensor:
    """Logits [B, 2] of right and wrong answer: logits [B, V], answers [B, 2] token ids."""
    return logits.float().gather(-1, answers.to(logits.device))


def two_token_losses(answered: Tensor) -> Tensor:
    """Loss in nats [..., B] of answer logits [..., B, 2] (right, wrong); chance is ln 2."""
    return F.softplus(answered[..., 1] - answered[..., 0])


def correct(answered: Tensor) -> Tensor:
    """1 where the right answer's logit is larger, 0.5 on a tie, else 0: [..., B] float32."""
    difference = answered[..., 0] - answered[..., 1]
    return (difference.sign() + 1) / 2

"""Prompts with what is right, and the passes they are run in: rows of like length together.

Task prompts are short and of very different length. Rows are sorted by length and each pass is cut
to its longest row, so that little of the work is padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ScoredPrompts:
    """Prompts with what is right: `answers` [B, 2] (right, wrong token at the last real position;
    two-token loss) or `targets` [B, T] (-1: not counted; cross-entropy over the vocabulary).

    Of a task's prompts, rows i and i + B/2 are a pair.
    """

    tokens: Tensor  # [B, T] int64, right-padded
    lengths: Tensor  # [B] int64
    answers: Tensor | None = None
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.answers is None) == (self.targets is None):
            raise ValueError("scored prompts need either answers or targets")

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, chosen: Tensor) -> ScoredPrompts:
        """The rows `chosen` (int64 [n]) in that order, without columns that are all padding."""
        lengths = self.lengths[chosen]
        n_positions = int(lengths.max())
        return ScoredPrompts(
            self.tokens[chosen, :n_positions],
            lengths,
            None if self.answers is None else self.answers[chosen],
            None if self.targets is None else self.targets[chosen, :n_positions],
        )

    def pairs(self, chosen: Tensor) -> ScoredPrompts:
        """Both rows of each of the pairs `chosen` (int64 [n], numbers below B/2): 2n rows."""
        return self.rows(torch.cat([chosen, chosen + len(self) // 2]))

    def passes(self, n_rows: int) -> Iterator[Tensor]:
        """All row numbers, shortest rows first, at most `n_rows` at a time."""
        order = torch.argsort(self.lengths, stable=True)
        return iter(order.split(n_rows))

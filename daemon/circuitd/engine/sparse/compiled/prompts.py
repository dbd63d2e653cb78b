"""Fixed prompts as a compiled circuit sees them: lanes, and the letters they are copies of.

A lane is one token of one prompt, a letter is what the static part of the stream depends on there:
token and position, or the token alone where positions are concatenated inside the blocks. Whatever
a circuit freezes is the same for all lanes of a letter, and letters are few: a task's thousand
prompts of twenty tokens have some hundreds of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from torch import Tensor

from circuitd.engine.sparse.lanes.layout import Network

Array = np.ndarray[Any, Any]

#: Lanes of one block, whole prompts (one prompt at least): what a step works on at once.
N_LANES: Final = 512


class Lanes(NamedTuple):
    """Prompts end to end, prompt b from `starts[b]` to `starts[b + 1]`. All int64.

    Where only last tokens matter a lane is a whole prompt: `last_letters`, `last_positions`. The
    letters of the block that begins with prompt b, each once, are `block_letters` from
    `block_start[b]` to `block_end[b]`.
    """

    starts: Array  # [B + 1]
    letters: Array  # [lanes]
    positions: Array  # [lanes]
    last_letters: Array  # [B]
    last_positions: Array  # [B]
    block_letters: Array
    block_start: Array  # [B], 0 but for the first of a block
    block_end: Array  # [B], likewise
    in_block: Array  # [lanes]: the place of each lane's letter among those of its block


@dataclass(frozen=True, eq=False)
class LaidPrompts:
    """Prompts laid out in lanes, and their letters: those of last tokens first, `n_last` of them.

    `embeddings` [letters, d]: the stream before the first block.
    """

    lanes: Lanes
    n_last: int
    embeddings: Array
    last_tokens: Array  # [B]
    answers: Array  # [B, 2]: right and wrong token
    #: Squares and windows of the first half block, by number of letters: they are the same for
    #: every circuit, and nothing else in a compilation runs over as many letters.
    of_first_half: dict[int, tuple[Array, Array]] = field(default_factory=dict)

    @classmethod
    def lay(cls, net: Network, tokens: Tensor, lengths: Tensor, answers: Tensor) -> LaidPrompts:
        """Lay out rows of `tokens` [B, T], each `lengths[b]` long; `answers` [B, 2]."""
        ids, n = tokens.cpu().numpy(), lengths.cpu().numpy().astype(np.int64)
        real = np.arange(ids.shape[1]) < n[:, None]
        flat = ids[real].astype(np.int64)
        positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)[real]
        starts = np.concatenate([[0], np.cumsum(n)])
        n_positions = len(net.wpe) or 1
        codes = flat * n_positions + (positions if len(net.wpe) else 0)
        lasts = starts[1:] - 1
        last_codes = np.unique(codes[lasts])
        found = np.concatenate([last_codes, np.setdiff1d(codes, last_codes)])
        order = np.argsort(found)
        letters = order[np.searchsorted(found, codes, sorter=order)]
        embeddings = net.wte[found // n_positions]
        if len(net.wpe):
            embeddings = embeddings + net.wpe[found % n_positions]
        lanes = Lanes(
            starts, letters, positions.copy(), letters[lasts], positions[lasts],
            *_letters_of_blocks(starts, letters),
        )  # fmt: skip
        return cls(
            lanes, len(last_codes), embeddings, flat[lasts], answers.cpu().numpy().astype(np.int64)
        )

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return int(np.diff(self.lanes.starts).max())

    def blocks(self) -> list[tuple[int, int]]:
        """Rows from, to of each block of at most `N_LANES` lanes (more for a longer prompt)."""
        return _blocks(self.lanes.starts)


def _blocks(starts: Array) -> list[tuple[int, int]]:
    cut = [0]
    for row in range(1, len(starts) - 1):
        if starts[row + 1] - starts[cut[-1]] > N_LANES:
            cut.append(row)
    return list(zip(cut, [*cut[1:], len(starts) - 1], strict=True))


def _letters_of_blocks(starts: Array, letters: Array) -> tuple[Array, Array, Array, Array]:
    """The last four fields of `Lanes`."""
    first, last = np.zeros((2, len(starts) - 1), np.int64)
    in_block = np.empty(len(letters), np.int64)
    found: list[Array] = []
    n = 0
    for begin, end in _blocks(starts):
        lanes = slice(starts[begin], starts[end])
        own, in_block[lanes] = np.unique(letters[lanes], return_inverse=True)
        found.append(own)
        first[begin], last[begin] = n, n + len(own)
        n += len(own)
    return np.concatenate(found), first, last, in_block

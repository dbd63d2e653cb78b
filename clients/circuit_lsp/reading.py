"""A stretch of a document as tokens: what is run on the model, and where each token stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from circuit_client.aio import AsyncConnection
from circuit_lsp.facts import ModelFacts
from circuit_lsp.texts import Text
from circuit_lsp.tokens import Spot, spot_at, spots_of
from circuit_lsp.windows import Block, blocks_around, cut_around
from circuit_protocol.errors import BadTokens, NotFound
from circuit_protocol.replies import TokenInfo


@dataclass(frozen=True)
class Reading:
    """Tokens of `text` from character `start` to `end`, and the blocks to run them in."""

    text: Text
    model: ModelFacts
    start: int
    end: int
    tokens: tuple[TokenInfo, ...]
    blocks: tuple[Block, ...]

    @cached_property
    def ids(self) -> np.ndarray:
        """Token ids, [T]."""
        return np.array([token.id for token in self.tokens], dtype=np.int64)

    @cached_property
    def spots(self) -> list[Spot]:
        """Where tokens stand in the document."""
        return spots_of(self.text.plain[self.start : self.end], self.tokens, self.start)

    @property
    def rows(self) -> list[np.ndarray]:
        """The blocks' tokens."""
        return [self.ids[b.start : b.stop] for b in self.blocks]

    @property
    def scored(self) -> tuple[int, int]:
        """First and last-but-one token that a number is known of."""
        return (self.blocks[0].scored, self.blocks[-1].stop) if self.blocks else (0, 0)

    @property
    def n_left_out(self) -> int:
        """About how many tokens of the document are not covered."""
        first, stop = self.scored
        here = len(self.tokens) - (stop - first)
        beyond = len(self.text.source) - (self.end - self.start)
        per_token = (self.end - self.start) / max(1, len(self.tokens))
        return here + round(beyond / max(per_token, 1.0))

    def gather(self, values: np.ndarray, shift: int) -> np.ndarray:
        """Numbers per token [T] from numbers per block and position [B, T'].

        `shift` 1: position t says something of token t + 1. NaN where nothing is known.
        """
        found = np.full(len(self.tokens), np.nan)
        for row, block in enumerate(self.blocks):
            first = max(block.scored, block.start + shift)
            found[first : block.stop] = values[
                row, first - block.start - shift : block.stop - block.start - shift
            ]
        return found

    def spot_at(self, offset: int) -> Spot:
        """The spot at a character. Raises NotFound where there is no token."""
        spot = spot_at(self.spots, offset)
        if spot is None:
            raise NotFound("there is no token at this place", hint="The text is empty here")
        return spot

    def before(self, token: int) -> np.ndarray:
        """What the model sees before `token`: as much as it can, at least one token.

        Raises BadTokens for the first token, which nothing comes before.
        """
        if token == 0:
            raise BadTokens(
                "nothing comes before the first token, so the model predicts nothing there",
                hint="Ask at a later one",
            )
        return self.ids[max(0, token - self.model.block_size) : token]


async def read(connection: AsyncConnection, model: ModelFacts, text: Text, focus: int) -> Reading:
    """Tokenize what is to be seen around `focus` (a character) of `text`."""
    start, end = cut_around(text.source, text.line_starts, focus, model.block_size)
    piece = text.plain[start:end]
    tokens: Sequence[TokenInfo] = ()
    if piece:
        (tokens,) = await connection.tokenize(piece, model.name)
    focused = _token_at(piece, tokens, focus - start)
    blocks = blocks_around(len(tokens), focused, model.block_size)
    return Reading(text, model, start, end, tuple(tokens), blocks)


def _token_at(piece: str, tokens: Sequence[TokenInfo], character: int) -> int:
    """Index of the token that holds a character."""
    byte = len(piece[: max(0, character)].encode())
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if tokens[middle].offset <= byte:
            low = middle + 1
        else:
            high = middle
    return max(0, low - 1)

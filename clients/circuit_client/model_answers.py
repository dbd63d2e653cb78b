"""What requests about a model's files answer, with their numbers as arrays."""

from functools import cached_property

import numpy as np

from circuit_client.answers import Answer
from circuit_protocol.inspection import EmbeddingColumnShown, TokenWeight


class Embedded(Answer[EmbeddingColumnShown]):
    """The answer of `models.embedding`."""

    @property
    def top(self) -> tuple[TokenWeight, ...]:
        """Tokens of the largest weights, descending."""
        return self.raw.top

    @property
    def bottom(self) -> tuple[TokenWeight, ...]:
        """Tokens of the smallest weights, ascending."""
        return self.raw.bottom

    @property
    def counts(self) -> np.ndarray:
        """How many tokens have a weight in each bin, [n_bins]."""
        return np.asarray(self.raw.counts, np.int64)

    @property
    def edges(self) -> np.ndarray:
        """The bins' ends, [n_bins + 1]."""
        return np.asarray(self.raw.edges, np.float64)

    @cached_property
    def positions(self) -> np.ndarray | None:
        """What each position adds to the channel, [block_size]; None where none does."""
        return None if self.raw.positions is None else self._value(self.raw.positions).numpy()

    def __repr__(self) -> str:
        raw = self.raw
        return f"Embedded({raw.of} of channel {raw.channel}, {raw.n_nonzero}/{raw.n_tokens} tokens)"

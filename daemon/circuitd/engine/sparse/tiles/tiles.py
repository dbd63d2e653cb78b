"""Tiles: the real tokens of a batch, sixteen side by side, and the way to [B, T, C] and back.

Rows follow one another without padding, so a ragged batch costs what its tokens cost. An
activation is one array [tiles, channels, LANES]; lanes after the last token compute on token 0 and
are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import LANES

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where each token of a batch [n_rows, n_positions] stands."""

    n_rows: int
    n_positions: int
    tokens: Array  # [tiles, LANES] int64
    positions: Array  # [tiles, LANES] int64
    places: Array  # [real tokens] int64: row * n_positions + position, in lane order
    starts: Array  # [tiles, LANES] int32: where in lane order each lane's row begins
    lengths: tuple[int, ...]

    @classmethod
    def pack(cls, tokens: Tensor, lengths: tuple[int, ...] | None) -> Tiles:
        """Lay out `tokens` [B, T], of which row b has `lengths[b]` real ones (None: all)."""
        n_rows, n_positions = tokens.shape
        own = lengths or (n_positions,) * n_rows
        is_real = np.arange(n_positions) < np.array(own)[:, None]
        places = np.flatnonzero(is_real)
        n_tiles = -(-len(places) // LANES)
        laid = np.zeros((2, n_tiles * LANES), np.int64)
        laid[0, : len(places)] = tokens.cpu().numpy().reshape(-1)[places]
        laid[1, : len(places)] = places % n_positions
        starts = (np.arange(n_tiles * LANES) - laid[1]).astype(np.int32)
        of_tiles = (n_tiles, LANES)
        return cls(
            n_rows, n_positions, laid[0].reshape(of_tiles), laid[1].reshape(of_tiles), places,
            starts.reshape(of_tiles), tuple(own),
        )  # fmt: skip

    @property
    def n_tiles(self) -> int:
        """How many tiles the tokens fill."""
        return len(self.tokens)

    def spread(self, x: Array) -> Tensor:
        """`x` [tiles, C, LANES] as a new tensor [B, T, C], zero at padding."""
        width = x.shape[1]
        is_ragged = len(self.places) < self.n_rows * self.n_positions
        make = np.zeros if is_ragged else np.empty
        out = make((self.n_rows * self.n_positions, width), np.float32)
        _spread(x, self.places, out)
        return torch.from_numpy(out).view(self.n_rows, self.n_positions, width)

    def fill(self, values: Tensor, out: Array) -> None:
        """Write `values` [B, T, C] into `out` [tiles, C, LANES]; lanes without a token stay."""
        rows = values.expand(self.n_rows, self.n_positions, -1).reshape(-1, values.shape[-1])
        _fill(rows.contiguous().numpy(), self.places, out)


@jit
def _spread(x: Array, places: Array, out: Array) -> None:
    """Token by token, a few channels at a time: both sides stay within few cache lines."""
    width = out.shape[1]
    for first in range(0, len(places), LANES):
        tile = x[first // LANES]
        n = min(LANES, len(places) - first)
        for channel in range(0, width, LANES):
            stop = min(width, channel + LANES)
            for lane in range(n):
                to = out[places[first + lane]]
                for c in range(channel, stop):
                    to[c] = tile[c, lane]


@jit
def _fill(rows: Array, places: Array, out: Array) -> None:
    width = rows.shape[1]
    for first in range(0, len(places), LANES):
        tile = out[first // LANES]
        n = min(LANES, len(places) - first)
        for channel in range(0, width, LANES):
            stop = min(width, channel + LANES)
            for lane in range(n):
                row = rows[places[first + lane]]
                for c in range(channel, stop):
                    tile[c, lane] = row[c]

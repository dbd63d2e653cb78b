"""Attention of one tile, all heads: the tiles lie below one another."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.attention import NOT_SEEN, attend, queries_of
from circuitd.engine.sparse.jit import jit

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def attend_heads(
    qkv: Array, tile: int, starts: Array, d_head: int, sinks: Array, scores: Array, out: Array
) -> None:
    """The values that the queries of `tile` see, into `out` [d_attn, LANES].

    `qkv` [tiles, 3 * d_attn, LANES]; `starts` int32 [LANES]: the first lane of each query's row,
    counted over all tiles. `sinks` [n_head] or empty; `scores` [keys, LANES] is scratch.
    """
    d_attn = out.shape[0]
    rows = qkv.reshape(-1, qkv.shape[2])
    queries = queries_of(starts, tile, 3 * d_attn, 0)
    scale = _F(1) / np.sqrt(_F(d_head))
    for channel in range(0, d_attn, d_head):
        sink = sinks[channel // d_head] if sinks.shape[0] > 0 else NOT_SEEN
        attend(
            queries, starts, rows[channel:], rows[d_attn + channel :],
            rows[2 * d_attn + channel :], d_head, d_head, scale, sink, scores, out[channel:], 0,
        )  # fmt: skip

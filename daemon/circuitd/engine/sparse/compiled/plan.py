"""What a compiled circuit consists of, as flat arrays for its kernels.

Open nodes that can matter are numbered in forward order: *slots*. Half block h (0 to 2 L - 1) is
attention where even. A *part* is one selection over the rows of a weight matrix: of layer i, part
6 i + j with j of Q, K, V, ATTN_OUT, HIDDEN, MLP_OUT. Its *rows* are those that vary, its *sources*
what they are computed from, its *candidates* the open nodes among all its rows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

Q: Final = 0
K: Final = 1
V: Final = 2
ATTN_OUT: Final = 3
HIDDEN: Final = 4
MLP_OUT: Final = 5
N_PARTS: Final = 6


class Stream(NamedTuple):
    """The n residual channels that open nodes write to, in the order of their first writers, so
    that those that vary at half block h are the first `n_varying[h]`.
    """

    channels: Array  # [n]
    n_varying: Array  # [2 L + 1]
    embeddings: Array  # [n, letters]
    fills: Array  # [2 L, n]: what a half block adds where its node is closed
    writers: Array  # [2 L, n]: the candidate that writes, or -1
    gains: Array  # [2 L, n]: of the half block's norm
    squares: Array  # [2 L, letters]: sum of squares of the channels that do not vary


class Inputs(NamedTuple):
    """Open nodes of act_in; those of half block h are `start[h]` to `start[h + 1]`."""

    start: Array  # [2 L + 1]
    slot: Array  # [n]
    channel: Array  # [n]
    varying: Array  # [n]: place in the stream's varying channels, or -1
    gain: Array  # [n]
    static: Array  # [n, letters]: the stream there, where it does not vary
    window_at: Array  # [2 L]: window of letter l from window_at + l * (n_varying + d_pos + 1)
    windows: Array  # keys of magnitudes before the norm's scale


class Rows(NamedTuple):
    """The parts. Rows, sources' edges and candidates of a part lie between its starts."""

    row_start: Array  # [6 L + 1]
    row: Array  # ascending within a part
    bias: Array  # with what closed sources add
    edge_at: Array  # [6 L]: edges of source s from edges_of[edge_at + s] to the next
    edges_of: Array
    edge_to: Array  # place among the part's rows
    edge_weight: Array
    candidate_start: Array  # [6 L + 1]
    slot: Array
    channel: Array  # its row
    varying: Array  # its place among the part's rows, or -1
    rank: Array  # how many of the part's rows come before its own
    value: Array  # where it does not vary
    kept: Array  # [6 L]: how many AbsTopK keeps; 0 where it does not act
    window_at: Array  # [6 L]
    windows: Array
    # ATTN_OUT: what frozen heads add depends on the position. Rows first, then candidates.
    by_position_at: Array  # [L]
    by_position: Array  # [rows and candidates, positions]


class Heads(NamedTuple):
    """Heads whose output varies; those of layer i are `start[i]` to `start[i + 1]`.

    A score is `base`, plus open queries times closed keys' fills (`lone`), plus open keys times
    queries that are open or at their fill (`pair`).
    """

    start: Array  # [L + 1]
    base: Array
    sink: Array
    source: Array  # its share as a source of ATTN_OUT (times closed values), or -1
    first_value: Array  # its open values among the candidates of V
    last_value: Array
    lone_start: Array  # [n + 1]
    lone_query: Array
    lone_fill: Array
    pair_start: Array  # [n + 1]
    pair_key: Array
    pair_query: Array  # or -1
    pair_fill: Array


class Ending(NamedTuple):
    """Open nodes of final_resid and how they become the difference of each prompt's two logits."""

    slot: Array  # [n]
    varying: Array  # [n]: as in Inputs
    static: Array  # [n, last letters]
    weight: Array  # [n, B]: gain times difference of the answers' unembeddings
    rest: Array  # [B]: likewise of closed channels, summed
    square: float  # of closed channels, summed
    bias: Array  # [B]


class Shape(NamedTuple):
    """Sizes, and which half blocks need every token."""

    n_layer: int
    d_model: int
    d_pos: int
    d_head: int
    d_mlp: int
    is_gelu: bool
    has_sink: bool
    norm_eps: float
    attn_in: int  # kept by AbsTopK; 0 where it does not act
    mlp_in: int
    #: From half block `turn` on only last tokens matter; before it every token does. Queries are
    #: last tokens from `turn - 1` on.
    turn: int
    longest: int  # tokens of the longest prompt


class Plan(NamedTuple):
    """A compiled circuit on fixed prompts."""

    shape: Shape
    nodes: Array  # [slots]: the node of each slot
    fills: Array  # [slots]
    positions: Array  # [2 L, T, d_pos]: positional channels after their norm
    stream: Stream
    inputs: Inputs
    rows: Rows
    heads: Heads
    ending: Ending


class Cuts(NamedTuple):
    """Cut edges of each mask: mask m's are `start[m]` to `start[m + 1]`. Along a cut edge flows
    `fill` instead of its source; out of V, the fill times the share of `head` (within its layer).
    """

    start: Array  # [masks + 1]
    part: Array
    source: Array
    to: Array  # place among the part's rows
    weight: Array
    fill: Array
    head: Array


class Entries(NamedTuple):
    """What a base keeps for others to start from: the varying channels of the stream on entry of
    each half block, of all tokens before the turn, of last tokens from it on; and the candidates of
    all parts that are worked out for all tokens.
    """

    of_tokens: Array  # [turn, n, lanes]
    of_lasts: Array  # [2 L + 1 - turn, n, B]
    candidates: Array  # [all candidates, lanes]

"""Triton kernels: AbsTopK by selection, products over nonzeros, attention with a sink.

Activations are [tokens, channels] as everywhere in the engine. Sums are taken in float32 whatever
the type of the activations; nothing here waits for the device. What grows with the batch is along a
grid's first axis: the others end at 65,535.
"""

# Triton comes with CUDA builds of torch and is otherwise not there: `available` looks first.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl


def jit(function: Callable[..., None]) -> Any:
    """What is launched on a grid: `kernel[grid](...)`."""
    return triton.jit(function)


@jit
def select(
    x, out, kept, n_rows, width, k,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, STEP: tl.constexpr, KEEPS_MASK: tl.constexpr,
):  # fmt: skip
    """Rows of `x` [n_rows, width] with all but their `k` largest magnitudes zeroed, into `out`.

    Magnitudes order like the integers their bits are as float32, of which only every `STEP`-th can
    occur. The k-th largest is bracketed by counts over the row, which stays in registers: first at
    a guess from the mean, then where a line through both ends says (regula falsi, Illinois); after
    many in the middle. Of equal magnitudes the first stay. With `KEEPS_MASK`, `kept` says of each
    entry whether it stayed.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    inside = (rows < n_rows)[:, None] & (columns < width)[None, :]
    at = rows.to(tl.int64)[:, None] * width + columns[None, :]
    value = tl.load(x + at, mask=inside, other=0.0)
    magnitude = tl.abs(value.to(tl.float32))
    bits = magnitude.to(tl.int32, bitcast=True)
    high = tl.max(bits, axis=1) + STEP
    guess = tl.sum(magnitude, axis=1) * 1.4 / width  # of a quarter kept, about there
    bits = tl.where(inside, bits, -1)  # beyond the row: below every threshold
    # Where fewer than k differ from zero, nothing is to be found.
    high = tl.where(tl.sum((bits > 0).to(tl.int32), axis=1) < k, STEP, high)
    low = tl.zeros([ROWS], tl.int32)
    n_low = tl.zeros([ROWS], tl.int32) + width
    over_low = n_low - k + 0.5
    over_high = tl.zeros([ROWS], tl.float32) - k + 0.5
    was_enough = tl.zeros([ROWS], tl.int32) - 1
    n_counts = 0
    while tl.max(high - low, axis=0) > STEP:
        here = guess.to(tl.int32, bitcast=True)
        here = tl.where(n_counts < 16, here, low + (high - low) // 2) & -STEP
        here = tl.maximum(low + STEP, tl.minimum(here, high - STEP))
        is_open = high - low > STEP
        n_here = tl.sum((bits >= here[:, None]).to(tl.int32), axis=1)
        enough = n_here >= k
        over = n_here - k + 0.5
        over_high = tl.where(enough & (was_enough == 1), over_high * 0.5, over_high)
        over_low = tl.where((n_here < k) & (was_enough == 0), over_low * 0.5, over_low)
        over_low = tl.where(enough, over, over_low)
        over_high = tl.where(enough, over_high, over)
        was_enough = enough.to(tl.int32)
        n_low = tl.where(is_open & enough, n_here, n_low)
        low = tl.where(is_open & enough, here, low)
        high = tl.where(is_open & (n_here < k), here, high)
        high = tl.where(is_open & (n_here == k), low + STEP, high)  # nothing is left to find
        bottom, top = low.to(tl.float32, bitcast=True), high.to(tl.float32, bitcast=True)
        guess = bottom + (top - bottom) * (over_low / (over_low - over_high))
        n_counts += 1
    stays = bits >= low[:, None]
    # Which of several zeros stays shows in the mask alone.
    matters = n_low if KEEPS_MASK else tl.where(low > 0, n_low, 0)
    if tl.max(matters, axis=0) > k:
        above = bits > low[:, None]
        is_tied = bits == low[:, None]
        room = k - tl.sum(above.to(tl.int32), axis=1)
        stays = above | (is_tied & (tl.cumsum(is_tied.to(tl.int32), axis=1) <= room[:, None]))
    tl.store(out + at, tl.where(stays, value, 0.0), mask=inside)
    if KEEPS_MASK:
        tl.store(kept + at, stays, mask=inside)


@jit
def multiply(
    x, starts, columns, values, bias, out, n_in, n_out, HAS_BIAS: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """W x + bias of one token, of `x` [n_tokens, n_in] into `out` [n_tokens, n_out], W being
    compressed rows.

    Neighbouring threads have neighbouring rows of W and gather from one token's `x`, which the
    first-level cache holds.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1).to(tl.int64)
    is_row = rows < n_out
    start = tl.load(starts + rows, mask=is_row, other=0)
    stop = tl.load(starts + rows + 1, mask=is_row, other=0)
    total = tl.zeros([ROWS], tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + rows, mask=is_row, other=0.0).to(tl.float32)
    for i in range(tl.max(stop - start, axis=0)):
        at = start + i
        is_entry = at < stop
        column = tl.load(columns + at, mask=is_entry, other=0)
        value = tl.load(values + at, mask=is_entry, other=0.0).to(tl.float32)
        here = tl.load(x + token * n_in + column, mask=is_entry, other=0.0)
        total += value * here.to(tl.float32)
    tl.store(out + token * n_out + rows, total, mask=is_row)


@jit
def multiply_lanes(
    x, starts, columns, values, bias, out, n_tokens, n_lanes, n_out, n_row_blocks,
    HAS_BIAS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The same from `x` [n_in, n_lanes], token by token in lanes: an entry of W reads them in one
    piece. The result is turned on its way out.
    """
    # Programs that follow each other read the same tokens, which are still in the cache.
    rows = tl.program_id(0) % n_row_blocks * ROWS + tl.arange(0, ROWS)
    tokens = tl.program_id(0) // n_row_blocks * TOKENS + tl.arange(0, TOKENS)
    is_row, is_token = rows < n_out, tokens < n_tokens
    start = tl.load(starts + rows, mask=is_row, other=0)
    stop = tl.load(starts + rows + 1, mask=is_row, other=0)
    total = tl.zeros([ROWS, TOKENS], tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + rows, mask=is_row, other=0.0).to(tl.float32)[:, None]
    for i in range(tl.max(stop - start, axis=0)):
        at = start + i
        is_entry = at < stop
        column = tl.load(columns + at, mask=is_entry, other=0).to(tl.int64)
        value = tl.load(values + at, mask=is_entry, other=0.0).to(tl.float32)
        inside = is_entry[:, None] & is_token[None, :]
        here = tl.load(x + column[:, None] * n_lanes + tokens[None, :], mask=inside, other=0.0)
        total += value[:, None] * here.to(tl.float32)
    at = tokens.to(tl.int64)[:, None] * n_out + rows[None, :]
    tl.store(out + at, tl.trans(total), mask=is_token[:, None] & is_row[None, :])


@jit
def turn(x, out, n_tokens, n_lanes, width, TILE: tl.constexpr):
    """`x` [n_tokens, width] as `out` [width, n_lanes]."""
    tokens = tl.program_id(0) * TILE + tl.arange(0, TILE)
    channels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = (tokens < n_tokens)[:, None] & (channels < width)[None, :]
    here = tl.load(x + tokens.to(tl.int64)[:, None] * width + channels[None, :], mask=inside)
    to = out + channels.to(tl.int64)[:, None] * n_lanes + tokens[None, :]
    tl.store(to, tl.trans(here), mask=(channels < width)[:, None] & (tokens < n_tokens)[None, :])


@jit
def attend(
    q, k, v, sinks, out, scale, n_head, n_queries, n_keys, n_query_blocks,
    q_row, q_head, q_position, k_row, k_head, k_position, v_row, v_head, v_position,
    D: tl.constexpr, BLOCK_D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):  # fmt: skip
    """Causal attention of [B, H, T, D], strided, into `out` [B, T, H, D].

    A sink is one more key, which adds nothing but its weight: where the sums begin. `scale` is that
    of the scores in units of log 2. The queries are the last of the keys' positions.
    """
    here = tl.program_id(0) // n_query_blocks
    row, head = here // n_head, here % n_head
    queries = tl.program_id(0) % n_query_blocks * QUERIES + tl.arange(0, QUERIES)
    d = tl.arange(0, BLOCK_D)
    row = row.to(tl.int64)
    q_at = q + row * q_row + head * q_head + queries.to(tl.int64)[:, None] * q_position + d[None, :]
    is_query = (queries < n_queries)[:, None] & (d < D)[None, :]
    query = tl.load(q_at, mask=is_query, other=0.0)
    if HAS_SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * 1.4426950408889634
        most = tl.zeros([QUERIES], tl.float32) + sink
        weight = tl.zeros([QUERIES], tl.float32) + 1.0
    else:
        most = tl.full([QUERIES], float("-inf"), tl.float32)
        weight = tl.zeros([QUERIES], tl.float32)
    total = tl.zeros([QUERIES, BLOCK_D], tl.float32)
    positions = queries + (n_keys - n_queries)
    end = tl.minimum(tl.max(positions, axis=0) + 1, n_keys)
    for first in range(0, end, KEYS):
        keys = first + tl.arange(0, KEYS)
        is_key = (keys < n_keys)[:, None] & (d < D)[None, :]
        at = keys.to(tl.int64)[:, None]
        key = tl.load(k + row * k_row + head * k_head + at * k_position + d[None, :], is_key, 0.0)
        value = tl.load(v + row * v_row + head * v_head + at * v_position + d[None, :], is_key, 0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        seen = keys[None, :] <= positions[:, None]
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, axis=1))
        pattern = tl.exp2(scores - higher[:, None])
        shrunk = tl.exp2(most - higher)
        weight = weight * shrunk + tl.sum(pattern, axis=1)
        total = total * shrunk[:, None]
        total += tl.dot(pattern.to(value.dtype), value, input_precision="ieee")
        most = higher
    at = ((row * n_queries + queries.to(tl.int64)[:, None]) * n_head + head) * D + d[None, :]
    tl.store(out + at, total / weight[:, None], mask=is_query)

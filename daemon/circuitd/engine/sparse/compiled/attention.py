"""The heads of a compiled circuit: only what varies of queries, keys and values.

A head none of whose keys is open gives every token it sees the same share, so its output is a
running sum; shares of closed values are one number per token (all, less what the sink takes).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.attention import NOT_SEEN, attend, queries_of
from circuitd.engine.sparse.compiled.plan import Heads, Shape
from circuitd.engine.sparse.copying import copy_row, fill_row
from circuitd.engine.sparse.functions import exp
from circuitd.engine.sparse.jit import jit, jit_reduce
from circuitd.engine.sparse.vectors import LANES, store_at

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def attend_all(
    shape: Shape,
    heads: Heads,
    layer: int,
    queries: Array,
    keys: Array,
    values: Array,
    positions: Array,
    starts: Array,
    scores: Array,
    pairs: Array,
    prefix: Array,
    seen: Array,
    shares: Array,
) -> None:
    """Every token attends. `queries`, `keys`, `values` [candidates, lanes]; writes open values as
    they are attended to, then the shares that are sources, to `seen`, and all heads' to `shares`.
    """
    n, scale = positions.shape[0], _F(1) / np.sqrt(_F(shape.d_head))
    n_tiles = (n + LANES - 1) // LANES
    for lane in range(n_tiles * LANES):  # what fills up the last tile sees itself
        starts[lane] = lane - (positions[lane] if lane < n else 0)
    for head in range(heads.start[layer], heads.start[layer + 1]):
        share = shares[head - heads.start[layer], :n]
        first, last = heads.first_value[head], heads.last_value[head]
        n_pairs = heads.pair_start[head + 1] - heads.pair_start[head]
        query_rows, key_rows = pairs[0, : n_pairs + 1, :n], pairs[1, : n_pairs + 1, :n]
        base = query_rows[n_pairs]
        _bases(heads, head, queries, base)
        if n_pairs == 0:
            _even_shares(shape, heads.sink[head], base, positions, share)
            _sum_up(values, first, last, positions, prefix)
            for i in range(first, last):
                total, to = prefix[i - first], seen[i]
                for lane in range(n):
                    to[lane] = share[lane] / _F(positions[lane] + 1) * total[lane]
        else:
            fill_row(key_rows[n_pairs], _F(1))
            for i in range(n_pairs):
                at = heads.pair_start[head] + i
                query, to = heads.pair_query[at], query_rows[i]
                copy_row(keys[heads.pair_key[at], :n], key_rows[i])
                if query >= 0:
                    copy_row(queries[query, :n], to)
                else:
                    fill_row(to, heads.pair_fill[at])
            sink = heads.sink[head] if shape.has_sink else NOT_SEEN
            for tile in range(n_tiles):
                lane = tile * LANES
                its = starts[lane : lane + LANES]
                asking = queries_of(its, tile, 0, LANES)
                given = attend(
                    asking, its, pairs[0], pairs[1], values[first:], n_pairs + 1, last - first,
                    scale, sink, scores, seen[first:], lane,
                )  # fmt: skip
                store_at(given, shares[head - heads.start[layer]], lane)
        if heads.source[head] >= 0:
            copy_row(share, seen[heads.source[head]])


@jit
def attend_last(
    shape: Shape,
    heads: Heads,
    layer: int,
    queries: Array,
    keys: Array,
    values: Array,
    positions: Array,
    ends: Array,
    last_positions: Array,
    scores: Array,
    prefix: Array,
    seen: Array,
    shares: Array,
) -> None:
    """Last tokens attend to their prompts. `queries` [candidates, prompts], `keys` and `values`
    [candidates, lanes], prompts end at lanes `ends`; otherwise as `attend_all`.
    """
    n = last_positions.shape[0]
    for head in range(heads.start[layer], heads.start[layer + 1]):
        share = shares[head - heads.start[layer], :n]
        first, last = heads.first_value[head], heads.last_value[head]
        first_pair, last_pair = heads.pair_start[head], heads.pair_start[head + 1]
        _bases(heads, head, queries, share)  # each is read before it is written
        if first_pair == last_pair:
            _even_shares(shape, heads.sink[head], share, last_positions, share)
            for prompt in range(n):
                n_keys = last_positions[prompt] + 1
                begin = ends[prompt] - n_keys
                for i in range(first, last):
                    total = _sum(values[i, begin : begin + n_keys])
                    seen[i, prompt] = share[prompt] / _F(n_keys) * total
        else:
            for prompt in range(n):
                n_keys = last_positions[prompt] + 1
                begin = ends[prompt] - n_keys
                own = scores[:n_keys]
                fill_row(own, share[prompt])
                for at in range(first_pair, last_pair):
                    query = heads.pair_query[at]
                    factor = queries[query, prompt] if query >= 0 else heads.pair_fill[at]
                    key = keys[heads.pair_key[at], begin : begin + n_keys]
                    for lane in range(n_keys):
                        own[lane] += factor * key[lane]
                share[prompt] = _to_pattern(shape, heads.sink[head], own)
                for i in range(first, last):
                    seen[i, prompt] = _dot(own, values[i, begin : begin + n_keys])
        if heads.source[head] >= 0:
            copy_row(share, seen[heads.source[head]])


@jit
def _bases(heads: Heads, head: int, queries: Array, out: Array) -> None:
    """The part of a head's scores that is the same for all keys, unscaled."""
    fill_row(out, heads.base[head])
    for at in range(heads.lone_start[head], heads.lone_start[head + 1]):
        fill, row = heads.lone_fill[at], queries[heads.lone_query[at]]
        for lane in range(out.shape[0]):
            out[lane] += fill * row[lane]


@jit
def _even_shares(shape: Shape, sink: Any, bases: Array, positions: Array, share: Array) -> None:
    """What a token gives to all it sees together, where it gives each the same."""
    scale = _F(1) / np.sqrt(_F(shape.d_head))
    for lane in range(share.shape[0]):
        if not shape.has_sink:
            share[lane] = _F(1)
            continue
        score = bases[lane] * scale
        largest = max(score, sink)
        weight = _F(positions[lane] + 1) * exp(score - largest)
        share[lane] = weight / (weight + exp(sink - largest))


@jit
def _sum_up(values: Array, first: int, last: int, positions: Array, prefix: Array) -> None:
    """Sums of each prompt's values up to each token."""
    for i in range(first, last):
        row, to, total = values[i], prefix[i - first], _F(0)
        for lane in range(positions.shape[0]):
            total = row[lane] if positions[lane] == 0 else total + row[lane]
            to[lane] = total


@jit
def _to_pattern(shape: Shape, sink: Any, scores: Array) -> Any:
    """Turn unscaled `scores` of one token into its pattern; returns the sum of it."""
    scale = _F(1) / np.sqrt(_F(shape.d_head))
    largest = sink if shape.has_sink else NOT_SEEN
    for lane in range(scores.shape[0]):
        scores[lane] *= scale
        largest = max(largest, scores[lane])
    for lane in range(scores.shape[0]):
        scores[lane] = exp(scores[lane] - largest)
    given = _sum(scores)
    total = given + (exp(sink - largest) if shape.has_sink else _F(0))
    for lane in range(scores.shape[0]):
        scores[lane] /= total
    return given / total


@jit_reduce
def _sum(x: Array) -> Any:
    total = _F(0)
    for lane in range(x.shape[0]):
        total += x[lane]
    return total


@jit_reduce
def _dot(x: Array, y: Array) -> Any:
    total = _F(0)
    for lane in range(x.shape[0]):
        total += x[lane] * y[lane]
    return total

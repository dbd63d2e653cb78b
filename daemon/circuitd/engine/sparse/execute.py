"""Run prompts on the sparse kernels: whole sequences packed into blocks of lanes, blocks shared out
over threads.

No lane is spent on padding within a sequence, and a block's activations stay in the cache. Results
do not depend on the number of threads: every block writes its own, and they are added in order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from circuitd.engine.sparse.compiled.circuit import (
    NO_CUTS,
    CompiledCircuit,
    EdgePlaces,
    is_worth_compiling,
)
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.layout import Network, lay_out, sizes_of
from circuitd.engine.sparse.network import Work, backward_block, fold, forward_block, make_work
from circuitd.engine.steps import Steps
from circuitd.engine.weights import Weights

Array = np.ndarray[Any, Any]

#: Lanes of a block: enough to fill vector registers, few enough for the second-level cache.
N_LANES: Final = 128
#: Blocks of one thread between two steps of a variant (milliseconds).
_BLOCKS_PER_STEP: Final = 4
#: Most bytes of a base's streams that are kept; beyond it variants start at the beginning.
_MOST_BYTES: Final = 2**28


@dataclass(frozen=True, eq=False)
class Block:
    """Whole sequences side by side in `N_LANES` lanes (more for a longer sequence)."""

    rows: Array  # [sequences]: which row of the prompts each is
    tokens: Array  # [lanes]
    positions: Array  # [lanes]
    starts: Array  # [sequences + 1]
    answers: Array  # [sequences, 2]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self.starts).max())


@dataclass(frozen=True, eq=False)
class Blocks:
    """Prompts cut into blocks."""

    blocks: tuple[Block, ...]
    n_rows: int

    @classmethod
    def pack(cls, tokens: Tensor, lengths: Tensor, answers: Tensor) -> Blocks:
        """Pack rows of `tokens` [B, T], each `lengths[b]` long; `answers` [B, 2] are the right and
        the wrong token. Rows of like length share a block, as attention costs what the longest
        does.
        """
        ids, n, two = tokens.cpu().numpy(), lengths.cpu().numpy(), answers.cpu().numpy()
        filled: list[list[int]] = [[]]
        room = N_LANES
        for row in np.argsort(-n, kind="stable"):
            if n[row] > room and filled[-1]:
                filled.append([])
                room = N_LANES
            filled[-1].append(int(row))
            room -= int(n[row])
        blocks = tuple(_block(rows, ids, n, two) for rows in filled)
        return cls(blocks, len(n))


class SparseNetwork:
    """One network on the sparse kernels. Raises ValueError for one that they do not cover.

    Re-entrant: activations belong to a call.
    """

    def __init__(self, weights: Weights, n_threads: int | None = None) -> None:
        self._net: Network = lay_out(weights)
        self._sizes = sizes_of(weights.config)
        self._n_threads = n_threads or max(1, min(torch.get_num_threads(), os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(self._n_threads, thread_name_prefix="sparse")

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, those shared with the dense weights included."""
        return self._net.nbytes

    def differences(
        self, blocks: Blocks, gates: Array, ablated: Array, cuts: EdgePlaces = NO_CUTS
    ) -> Steps[Array]:
        """Right minus wrong answer's logit of each row, float32 [B], under `gates` [n_nodes].

        A node's value is ablated + gate * (value - ablated). Computed in steps of a few blocks,
        one per `next`, so that other work can come between.
        """
        found, _ = yield from self._run(blocks, gates, ablated, keeps_layers=False, cuts=cuts)
        return found

    def cuts(self, places: Array, fills: Array) -> EdgePlaces:
        """Edges at `places` int64 [n, 4] with their weights (0 where there is no edge), to carry
        `fills` [n].
        """
        net, weights = self._net, np.zeros(len(places), np.float32)
        for i, (layer, matrix, source, row) in enumerate(places.tolist()):
            at = int(net.column_start[layer, matrix]) + source
            column = slice(net.columns[at], net.columns[at + 1])
            weights[i] = net.values[column][net.targets[column] == row].sum()
        return places, weights, fills

    def lay(self, tokens: Tensor, lengths: Tensor, answers: Tensor) -> LaidPrompts:
        """Fixed prompts for compiled circuits: rows of `tokens` [B, T], each `lengths[b]` long;
        `answers` [B, 2].
        """
        return LaidPrompts.lay(self._net, tokens, lengths, answers)

    def compiled(self, prompts: LaidPrompts, kept: Array, ablated: Array) -> CompiledCircuit | None:
        """The circuit `kept` (BOOL [n_nodes]), compiled; None if it is so large that it costs no
        less than the whole network.
        """
        if not is_worth_compiling(self._net, self._sizes, kept):
            return None
        return CompiledCircuit(
            self._net, self._sizes, kept, ablated, prompts, self._pool, self._n_threads
        )

    def gradient(self, blocks: Blocks, gates: Array, ablated: Array) -> Steps[tuple[Array, Array]]:
        """The same differences, and the gradient by gate [n_nodes] of the summed two-token loss."""
        return (yield from self._run(blocks, gates, ablated, keeps_layers=True))

    def entries(
        self,
        blocks: Blocks,
        gates: Array,
        ablated: Array,
        cuts: EdgePlaces = NO_CUTS,
    ) -> Steps[list[Array] | None]:
        """The stream at the entry of each layer [n_layer, d, lanes] under `gates` and `cuts`, block
        by block: what `variant` starts from. None where that is too much to keep.
        """
        n_lanes = sum(len(block.tokens) for block in blocks.blocks)
        if 4 * self._sizes.n_layer * self._sizes.d_model * n_lanes > _MOST_BYTES:
            return None
        folded = self._folded(gates, ablated)

        def run_one(block: Block) -> Array:
            work = make_work(self._sizes, len(block.tokens), block.longest, True)
            self._forward(block, gates, ablated, folded, work, True, 0, cuts)
            return work.stream[: 2 * self._sizes.n_layer : 2].copy()

        found: list[Array] = []
        for first in range(0, len(blocks.blocks), self._n_threads):
            found += self._pool.map(run_one, blocks.blocks[first : first + self._n_threads])
            yield None
        return found

    def variant(
        self,
        blocks: Blocks,
        gates: Array,
        ablated: Array,
        entries: Sequence[Array] | None,
        first_layer: int,
        cuts: EdgePlaces = NO_CUTS,
    ) -> Steps[Array]:
        """Differences [B] under `gates` that equal those of `entries` before `first_layer`, with
        edges cut. Without `entries` it starts at the beginning.
        """
        folded = self._folded(gates, ablated)
        found = np.empty(blocks.n_rows, np.float32)
        rooms: list[Work | None] = [None] * self._n_threads
        first_layer = 0 if entries is None else first_layer

        def run_some(thread: int, first: int) -> None:
            last = min(first + _BLOCKS_PER_STEP * self._n_threads, len(blocks.blocks))
            for number in range(first + thread, last, self._n_threads):
                block = blocks.blocks[number]
                work = rooms[thread] = self._room(rooms[thread], block, False)
                if entries is not None:
                    work.stream[0][:] = entries[number][first_layer]
                found[block.rows] = self._forward(
                    block, gates, ablated, folded, work, False, first_layer, cuts
                )

        threads = range(self._n_threads)
        for first in range(0, len(blocks.blocks), _BLOCKS_PER_STEP * self._n_threads):
            if first:
                yield None
            list(self._pool.map(run_some, threads, [first] * self._n_threads))
        return found

    def _folded(self, gates: Array, ablated: Array) -> Array:
        sizes = self._sizes
        n_folded = 3 * sizes.d_attn + sizes.d_mlp + sizes.d_model
        folded = np.empty((sizes.n_layer, n_folded), np.float32)
        fold(self._net, sizes, gates, ablated, folded)
        return folded

    def _forward(
        self,
        block: Block,
        gates: Array,
        ablated: Array,
        folded: Array,
        work: Work,
        keeps_layers: bool,
        first_layer: int,
        cuts: EdgePlaces,
    ) -> Array:
        """Differences of a block's sequences."""
        differences = np.empty(len(block.rows), np.float32)
        forward_block(
            self._net, self._sizes, gates, ablated, folded, block.tokens, block.positions,
            block.starts, block.longest, block.answers, keeps_layers, work, differences,
            first_layer, *cuts,
        )  # fmt: skip
        return differences

    def _run(
        self,
        blocks: Blocks,
        gates: Array,
        ablated: Array,
        keeps_layers: bool,
        cuts: EdgePlaces = NO_CUTS,
    ) -> Steps[tuple[Array, Array]]:
        net, sizes = self._net, self._sizes
        gates = np.ascontiguousarray(gates, np.float32)
        ablated = np.ascontiguousarray(ablated, np.float32)
        folded = self._folded(gates, ablated)
        found = np.empty(blocks.n_rows, np.float32)
        # In float64: the sum over blocks must not depend on how many there are.
        gradient = np.zeros(len(gates), np.float64)
        rooms: list[Work | None] = [None] * self._n_threads

        def run_one(block: Block, thread: int) -> Array | None:
            work = rooms[thread] = self._room(rooms[thread], block, keeps_layers)
            differences = self._forward(block, gates, ablated, folded, work, keeps_layers, 0, cuts)
            found[block.rows] = differences
            if not keeps_layers:
                return None
            grad = np.zeros(len(gates), np.float32)
            backward_block(
                net, sizes, gates, ablated, block.positions, block.starts, block.longest,
                block.answers, differences, work, grad,
            )  # fmt: skip
            return grad

        for first in range(0, len(blocks.blocks), self._n_threads):
            if first:
                yield None
            group = blocks.blocks[first : first + self._n_threads]
            if len(group) == 1:
                grads = [run_one(group[0], 0)]
            else:
                grads = list(self._pool.map(run_one, group, range(len(group))))
            for grad in grads:
                if grad is not None:
                    gradient += grad
        return found, gradient.astype(np.float32)

    def _room(self, work: Work | None, block: Block, keeps_layers: bool) -> Work:
        n_lanes, longest = len(block.tokens), block.longest
        if work is not None and work.y.shape[1] == n_lanes and len(work.pattern) > longest:
            return work
        return make_work(self._sizes, n_lanes, longest, keeps_layers)


def _block(rows: list[int], ids: Array, lengths: Array, answers: Array) -> Block:
    own = lengths[rows]
    starts = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
    n_lanes = max(N_LANES, -(-int(starts[-1]) // 16) * 16)
    tokens, positions = np.zeros(n_lanes, np.int64), np.zeros(n_lanes, np.int64)
    for row, start, length in zip(rows, starts[:-1], own, strict=True):
        tokens[start : start + length] = ids[row, :length]
        positions[start : start + length] = np.arange(length)
    return Block(np.array(rows), tokens, positions, starts, answers[rows].astype(np.int64))

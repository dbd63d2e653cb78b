"""Run prompts on the sparse kernels: whole sequences packed into blocks of lanes, blocks shared out
over threads, layer by layer.

No lane is spent on padding within a sequence, and a block's activations stay in the cache. Results
do not depend on the number of threads: every block writes its own, and they are added in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch import Tensor

from circuitd.engine.sparse.attention import n_keys_of
from circuitd.engine.sparse.compiled.build import compile_circuit
from circuitd.engine.sparse.compiled.circuit import (
    NO_CUTS,
    CompiledCircuit,
    EdgePlaces,
    is_worth_compiling,
)
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.lanes.backward import backward_block
from circuitd.engine.sparse.lanes.layout import Network, Sizes, lay_out, sizes_of
from circuitd.engine.sparse.lanes.network import fold, forward_block
from circuitd.engine.sparse.lanes.work import Work, make_work
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.sparse.vectors import LANES
from circuitd.engine.steps import Steps
from circuitd.engine.weights import Weights

Array = np.ndarray[Any, Any]

#: Lanes of a block, whole vectors of them: enough to walk a matrix seldom, few enough for the
#: second-level cache.
N_LANES: Final = 128
#: Most bytes of a base's streams that are kept; beyond it variants start at the beginning.
_MOST_BYTES: Final = 2**28


@dataclass(frozen=True, eq=False)
class Block:
    """Whole sequences side by side in `N_LANES` lanes (more for a longer sequence)."""

    rows: Array  # [sequences]: which row of the prompts each is
    tokens: Array  # [lanes]
    positions: Array  # [lanes]
    starts: Array  # [sequences + 1]
    lane_starts: Array  # [lanes] int32: where each lane's sequence begins
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
        the wrong token. Rows of like length share a block, so that few lanes stay empty.
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


@dataclass(frozen=True, eq=False)
class _Gates:
    """What nodes do in one pass: their gates and ablated values [n_nodes], the biases with what
    closed ones add, the edges that are cut.
    """

    gates: Array
    ablated: Array
    folded: Array
    cuts: EdgePlaces


class _Rooms:
    """Room for the blocks under way: one for each thread is made, and used again and again."""

    def __init__(self, sizes: Sizes, blocks: Blocks, keeps_layers: bool) -> None:
        self._sizes, self._blocks, self._keeps_layers = sizes, blocks.blocks, keeps_layers
        self._free: deque[Work] = deque()
        self._of: dict[int, Work] = {}

    def __getitem__(self, number: int) -> Work:
        """The room of block `number`, which has it until `leave`."""
        if number not in self._of:
            self._of[number] = self._take(self._blocks[number])
        return self._of[number]

    def leave(self, number: int) -> None:
        """Block `number` is done with."""
        self._free.append(self._of.pop(number))

    def _take(self, block: Block) -> Work:
        n_lanes, longest = len(block.tokens), block.longest
        try:
            work = self._free.pop()
        except IndexError:
            pass
        else:
            if work.y.shape[1] == n_lanes and len(work.shares) >= n_keys_of(longest, n_lanes):
                return work
        return make_work(self._sizes, n_lanes, longest, self._keeps_layers)


class SparseNetwork:
    """One network on the sparse kernels. Raises ValueError for one that they do not cover.

    Everything is computed in steps, which can end after each layer of a block, some milliseconds at
    the shipped size. Re-entrant: activations belong to a call.
    """

    def __init__(self, weights: Weights, n_threads: int | None = None) -> None:
        self._net: Network = lay_out(weights)
        self._sizes = sizes_of(weights.config)
        self._threads = Threads(n_threads)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, those shared with the dense weights included."""
        return self._net.nbytes

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

    # ---------------------------------------------------------------------- compiled circuits

    def lay(self, tokens: Tensor, lengths: Tensor, answers: Tensor) -> LaidPrompts:
        """Fixed prompts for compiled circuits: rows of `tokens` [B, T], each `lengths[b]` long;
        `answers` [B, 2].
        """
        return LaidPrompts.lay(self._net, tokens, lengths, answers)

    def is_worth_compiling(self, kept: Array) -> bool:
        """Whether the circuit `kept` (BOOL [n_nodes]) is so small that compiled it costs less than
        the whole network.
        """
        return is_worth_compiling(self._net, self._sizes, kept)

    def compiled(self, prompts: LaidPrompts, kept: Array, ablated: Array) -> Steps[CompiledCircuit]:
        """The circuit `kept` (BOOL [n_nodes]), compiled."""
        ablated = np.ascontiguousarray(ablated, np.float32)
        plan = yield from compile_circuit(self._net, self._sizes, kept, ablated, prompts)
        return CompiledCircuit(plan, self._sizes, kept, prompts, self._threads)

    # ---------------------------------------------------------------------------- all channels

    def differences(
        self, blocks: Blocks, gates: Array, ablated: Array, cuts: EdgePlaces = NO_CUTS
    ) -> Steps[Array]:
        """Right minus wrong answer's logit of each row, float32 [B], under `gates` [n_nodes].

        A node's value is ablated + gate * (value - ablated).
        """
        return (yield from self.variant(blocks, gates, ablated, None, 0, cuts))

    def gradient(self, blocks: Blocks, gates: Array, ablated: Array) -> Steps[tuple[Array, Array]]:
        """The same differences, and the gradient by gate [n_nodes] of the summed two-token loss."""
        given, n_layer = self._gates(gates, ablated, NO_CUTS), self._sizes.n_layer
        rooms = _Rooms(self._sizes, blocks, True)
        found = np.empty(blocks.n_rows, np.float32)
        differences = [np.empty(len(block.rows), np.float32) for block in blocks.blocks]
        grads: dict[int, Array] = {}
        # In float64: the sum over blocks must not depend on how many there are.
        gradient = np.zeros(len(gates), np.float64)

        def there_and_back(number: int, link: int) -> None:
            block, its = blocks.blocks[number], differences[number]
            if link < n_layer:
                self._forward(block, rooms[number], given, its, link, True)
                return
            if link == n_layer:
                grads[number] = np.zeros(len(gates), np.float32)
            layer = 2 * n_layer - 1 - link
            self._back(block, rooms[number], given, its, grads[number], layer)
            if layer == 0:
                rooms.leave(number)

        yield from self._threads.in_steps(there_and_back, len(blocks.blocks), 2 * n_layer)
        for number, block in enumerate(blocks.blocks):
            found[block.rows] = differences[number]
            gradient += grads[number]
        return found, gradient.astype(np.float32)

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
        n_layer = self._sizes.n_layer
        if 4 * n_layer * self._sizes.d_model * n_lanes > _MOST_BYTES:
            return None
        given, rooms = self._gates(gates, ablated, cuts), _Rooms(self._sizes, blocks, True)
        found: list[Array] = [np.empty(0, np.float32)] * len(blocks.blocks)

        def forward(number: int, layer: int) -> None:
            block, work = blocks.blocks[number], rooms[number]
            nowhere = np.empty(len(block.rows), np.float32)
            self._forward(block, work, given, nowhere, layer, True)
            if layer == n_layer - 1:
                found[number] = work.stream[: 2 * n_layer : 2].copy()
                rooms.leave(number)

        yield from self._threads.in_steps(forward, len(blocks.blocks), n_layer)
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
        first_layer = 0 if entries is None else first_layer
        n_links = self._sizes.n_layer - first_layer
        given, rooms = self._gates(gates, ablated, cuts), _Rooms(self._sizes, blocks, False)
        found = np.empty(blocks.n_rows, np.float32)

        def forward(number: int, link: int) -> None:
            block, work = blocks.blocks[number], rooms[number]
            its = np.empty(len(block.rows), np.float32)
            if link == 0 and entries is not None:
                work.stream[0][:] = entries[number][first_layer]
            self._forward(block, work, given, its, first_layer + link, False)
            if link == n_links - 1:
                found[block.rows] = its
                rooms.leave(number)

        yield from self._threads.in_steps(forward, len(blocks.blocks), n_links)
        return found

    # ------------------------------------------------------------------------------- the steps

    def _gates(self, gates: Array, ablated: Array, cuts: EdgePlaces) -> _Gates:
        sizes = self._sizes
        gates = np.ascontiguousarray(gates, np.float32)
        ablated = np.ascontiguousarray(ablated, np.float32)
        n_folded = 3 * sizes.d_attn + sizes.d_mlp + sizes.d_model
        folded = np.empty((sizes.n_layer, n_folded), np.float32)
        fold(self._net, sizes, gates, ablated, folded)
        return _Gates(gates, ablated, folded, cuts)

    def _forward(
        self,
        block: Block,
        work: Work,
        given: _Gates,
        differences: Array,
        layer: int,
        keeps_layers: bool,
    ) -> None:
        """One layer of a block; the last one fills `differences` [sequences]."""
        forward_block(
            self._net, self._sizes, given.gates, given.ablated, given.folded, block.tokens,
            block.positions, block.starts, block.lane_starts, block.answers, keeps_layers, work,
            differences, layer, layer + 1, *given.cuts,
        )  # fmt: skip

    def _back(
        self, block: Block, work: Work, given: _Gates, differences: Array, grad: Array, layer: int
    ) -> None:
        """Add to `grad` [n_nodes] what one layer of a block says."""
        backward_block(
            self._net, self._sizes, given.gates, given.ablated, block.starts, block.lane_starts,
            block.answers, differences, work, grad, layer, layer + 1,
        )  # fmt: skip


def _block(rows: list[int], ids: Array, lengths: Array, answers: Array) -> Block:
    own = lengths[rows]
    starts = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
    n_lanes = max(N_LANES, -(-int(starts[-1]) // LANES) * LANES)
    tokens, positions = np.zeros(n_lanes, np.int64), np.zeros(n_lanes, np.int64)
    for row, start, length in zip(rows, starts[:-1], own, strict=True):
        tokens[start : start + length] = ids[row, :length]
        positions[start : start + length] = np.arange(length)
    lane_starts = (np.arange(n_lanes) - positions).astype(np.int32)
    return Block(
        np.array(rows), tokens, positions, starts, lane_starts, answers[rows].astype(np.int64)
    )

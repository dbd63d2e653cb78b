"""Run prompts on the sparse kernels: whole sequences packed into blocks of lanes, blocks shared out
over threads, layer by layer.

No lane is spent on padding within a sequence, and a block's activations stay in the cache. Results
do not depend on the number of threads: every block writes its own, and they are added in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch import Tensor

from circuitd.engine.sparse.compiled.build import compile_circuit
from circuitd.engine.sparse.compiled.circuit import (
    NO_CUTS,
    CompiledCircuit,
    EdgePlaces,
    is_worth_compiling,
)
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.lanes.backward import backward_block
from circuitd.engine.sparse.lanes.layout import Network, lay_out, sizes_of
from circuitd.engine.sparse.lanes.network import fold, forward_block
from circuitd.engine.sparse.lanes.work import Work, make_work
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.steps import Steps
from circuitd.engine.weights import Weights

Array = np.ndarray[Any, Any]

#: Lanes of a block: enough to fill vector registers, few enough for the second-level cache.
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


@dataclass(frozen=True, eq=False)
class _Gates:
    """What nodes do in one pass: their gates and ablated values [n_nodes], the biases with what
    closed ones add, the edges that are cut.
    """

    gates: Array
    ablated: Array
    folded: Array
    cuts: EdgePlaces


@dataclass(frozen=True, eq=False)
class _Run:
    """A block by its number, and the room that it is computed in."""

    number: int
    block: Block
    work: Work


class SparseNetwork:
    """One network on the sparse kernels. Raises ValueError for one that they do not cover.

    Everything is computed in steps, one per `next`: a layer of one block for each thread, some
    milliseconds at the shipped size, so that other work can come between. Re-entrant: activations
    belong to a call.
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
        given = self._gates(gates, ablated, NO_CUTS)
        found = np.empty(blocks.n_rows, np.float32)
        # In float64: the sum over blocks must not depend on how many there are.
        gradient = np.zeros(len(gates), np.float64)
        for group in self._groups(blocks, True):
            differences = yield from self._forward(group, given, True)
            grads = np.zeros((len(group), len(gates)), np.float32)
            for layer in reversed(range(self._sizes.n_layer)):
                yield None
                self._back(group, given, differences, grads, layer)
            for run, its, grad in zip(group, differences, grads, strict=True):
                found[run.block.rows] = its
                gradient += grad
            yield None
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
        if 4 * self._sizes.n_layer * self._sizes.d_model * n_lanes > _MOST_BYTES:
            return None
        given = self._gates(gates, ablated, cuts)
        found: list[Array] = []
        for group in self._groups(blocks, True):
            yield from self._forward(group, given, True)
            found += [run.work.stream[: 2 * self._sizes.n_layer : 2].copy() for run in group]
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
        given = self._gates(gates, ablated, cuts)
        found = np.empty(blocks.n_rows, np.float32)
        first_layer = 0 if entries is None else first_layer
        for group in self._groups(blocks, False):
            if entries is not None:
                for run in group:
                    run.work.stream[0][:] = entries[run.number][first_layer]
            differences = yield from self._forward(group, given, False, first_layer)
            for run, its in zip(group, differences, strict=True):
                found[run.block.rows] = its
            yield None
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

    def _groups(self, blocks: Blocks, keeps_layers: bool) -> Iterator[list[_Run]]:
        """The blocks, one for each thread at a time; a group is done with when the next begins."""
        rooms: list[Work | None] = [None] * self._threads.n
        for first in range(0, len(blocks.blocks), self._threads.n):
            group: list[_Run] = []
            for i, block in enumerate(blocks.blocks[first : first + self._threads.n]):
                work = rooms[i] = self._room(rooms[i], block, keeps_layers)
                group.append(_Run(first + i, block, work))
            yield group

    def _room(self, work: Work | None, block: Block, keeps_layers: bool) -> Work:
        n_lanes, longest = len(block.tokens), block.longest
        if work is not None and work.y.shape[1] == n_lanes and len(work.pattern) > longest:
            return work
        return make_work(self._sizes, n_lanes, longest, keeps_layers)

    def _forward(
        self, group: Sequence[_Run], given: _Gates, keeps_layers: bool, first_layer: int = 0
    ) -> Steps[list[Array]]:
        """Differences of each block's sequences."""
        found = [np.empty(len(run.block.rows), np.float32) for run in group]

        def forward(number: int, layer: int) -> None:
            block, work = group[number].block, group[number].work
            forward_block(
                self._net, self._sizes, given.gates, given.ablated, given.folded, block.tokens,
                block.positions, block.starts, block.longest, block.answers, keeps_layers, work,
                found[number], layer, layer + 1, *given.cuts,
            )  # fmt: skip

        for layer in range(first_layer, self._sizes.n_layer):
            if layer > first_layer:
                yield None
            self._threads.share(lambda number, _, i=layer: forward(number, i), len(group))
        return found

    def _back(
        self,
        group: Sequence[_Run],
        given: _Gates,
        differences: Sequence[Array],
        grads: Array,
        layer: int,
    ) -> None:
        """Add to `grads` [blocks, n_nodes] what one layer says."""

        def backward(number: int, _: int) -> None:
            block, work = group[number].block, group[number].work
            backward_block(
                self._net, self._sizes, given.gates, given.ablated, block.positions, block.starts,
                block.longest, block.answers, differences[number], work, grads[number], layer,
                layer + 1,
            )  # fmt: skip

        self._threads.share(backward, len(group))


def _block(rows: list[int], ids: Array, lengths: Array, answers: Array) -> Block:
    own = lengths[rows]
    starts = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
    n_lanes = max(N_LANES, -(-int(starts[-1]) // 16) * 16)
    tokens, positions = np.zeros(n_lanes, np.int64), np.zeros(n_lanes, np.int64)
    for row, start, length in zip(rows, starts[:-1], own, strict=True):
        tokens[start : start + length] = ids[row, :length]
        positions[start : start + length] = np.arange(length)
    return Block(np.array(rows), tokens, positions, starts, answers[rows].astype(np.int64))

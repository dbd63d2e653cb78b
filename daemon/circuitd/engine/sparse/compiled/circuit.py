"""Compiled circuits: only what an open node can change is computed, all else is folded into
constants; the result is that of the whole network with everything outside the circuit ablated.

Ablating a node of the circuit or cutting an edge of it takes no new compilation, and is computed
from the first half block that it changes. Compared with the engine, AbsTopK is decided on
magnitudes before the norm's scale, ties going to the lowest channel: exact ties come out the same,
and two magnitudes that differ by rounding alone may change places, as between any two executions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

import numpy as np

from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.compiled.kernel import score_masks
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.compiled.work import Work, make_work
from circuitd.engine.sparse.lanes.layout import Network, Sizes
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.steps import Steps

Array = np.ndarray[Any, Any]

#: Edges to cut: int64 [n, 4] (layer; matrix 0 c_attn, 1 attn_proj, 2 c_fc, 3 mlp_proj; source;
#: target row), their weights [n], and what flows instead of each source [n].
EdgePlaces: TypeAlias = tuple[Array, Array, Array]
NO_CUTS: Final[EdgePlaces] = (
    np.empty((0, 4), np.int64),
    np.empty(0, np.float32),
    np.empty(0, np.float32),
)
#: Most that a thread does before it may stop, in lane operations: two or three milliseconds.
_TASK: Final = 2e7
#: Most tasks of a thread for one answer: results come as they are found.
_TASKS_AT_ONCE: Final = 32
#: Operations that one token's attention to another takes beside those of its channels.
_EXPONENTIAL: Final = 30
#: Most bytes of the base's stream that are kept; beyond it variants start at the beginning.
_MOST_BYTES: Final = 2**28


@dataclass(frozen=True, eq=False)
class Variant:
    """The circuit with more nodes `closed` (numbers [n]) and exactly these edges cut."""

    closed: Array
    cuts: EdgePlaces = NO_CUTS


class CompiledCircuit:
    """The `plan` of a circuit `kept` (BOOL [n_nodes]) on fixed prompts."""

    def __init__(
        self, plan: p.Plan, sizes: Sizes, kept: Array, prompts: LaidPrompts, threads: Threads
    ) -> None:
        self._plan, self._kept, self._sizes, self._prompts = plan, kept, sizes, prompts
        self._threads = threads
        self._places = _Places(self._plan, sizes, len(kept))
        self._rooms: SimpleQueue[tuple[tuple[int, int], Work]] = SimpleQueue()
        self._base_cuts = NO_CUTS
        self._entries: p.Entries | None = None
        self._cost = _cost(self._plan)

    @property
    def nbytes(self) -> int:
        """Bytes of the plan."""
        groups = (self._plan.stream, self._plan.inputs, self._plan.rows, self._plan.heads)
        return sum(part.nbytes for group in groups for part in group)

    def differences(self, cuts: EdgePlaces = NO_CUTS) -> Steps[Array]:
        """Right minus wrong answer's logit of each prompt [B], `cuts` being cut."""
        for found in self.variants([Variant(np.empty(0, np.int64), cuts)]):
            if found is not None:
                return found[0]
            yield None
        raise AssertionError("one variant has one result")

    def start_from(self, cuts: EdgePlaces) -> Steps[None]:
        """Keep the stream under these cuts for the variants to come to start from."""
        plan, lanes = self._plan, self._prompts.lanes
        turn, n = plan.shape.turn, len(plan.stream.channels)
        after = 2 * plan.shape.n_layer + 1 - turn
        n_lanes = len(lanes.letters)
        n_candidates = len(plan.rows.slot) if turn else 0
        n_kept = (n * turn + n_candidates) * n_lanes + n * after * len(self._prompts)
        if 4 * n_kept > _MOST_BYTES:
            return
        entries = p.Entries(
            np.empty((turn, n, n_lanes), np.float32),
            np.empty((after, n, len(self._prompts)), np.float32),
            np.empty((n_candidates, n_lanes), np.float32),
        )
        self._base_cuts = cuts
        base = [Variant(np.empty(0, np.int64), cuts)]
        start = np.zeros(1, np.int64), np.ones((1, p.N_PARTS), bool)
        for found in self._run(base, *start, entries, True):
            if found is None:
                yield None
        self._entries = entries

    def variants(self, variants: Sequence[Variant]) -> Iterator[Array | None]:
        """Differences [m, B] of all `variants` in order, some at a time; None between steps.

        Raises ValueError for a variant that closes a node which is closed already.
        """
        for variant in variants:
            if not self._kept[variant.closed].all():
                raise ValueError("a variant closes nodes of the circuit only")
        first_halves = np.zeros(len(variants), np.int64)
        changed = np.ones((len(variants), p.N_PARTS), bool)
        entries = self._entries or _no_entries()
        if self._entries is not None:
            for i, variant in enumerate(variants):
                first_halves[i], changed[i] = self._difference(variant)
        per_mask = self._cost * max(1, len(self._prompts.lanes.letters))
        at_once = max(self._threads.n, int(_TASKS_AT_ONCE * _TASK * self._threads.n / per_mask))
        for first in range(0, len(variants), at_once):
            group = slice(first, first + at_once)
            yield from self._run(
                variants[group], first_halves[group], changed[group], entries, False
            )

    def _difference(self, variant: Variant) -> tuple[int, Array]:
        """The first half block that differs from the base, and which parts of it have other rows
        than the base's, BOOL [6].
        """
        places = self._places
        slots = places.slot_of[variant.closed]
        slots = slots[slots >= 0]
        ours, base = (set(map(tuple, cuts[0].tolist())) for cuts in (variant.cuts, self._base_cuts))
        cuts = ours ^ base
        halves = [2 * self._plan.shape.n_layer, *places.half_of_slot[slots].tolist()]
        first = min(halves + [2 * cut[0] + (cut[1] >= 2) for cut in cuts])
        here = slots[places.half_of_slot[slots] == first]
        changed = np.full(p.N_PARTS, bool(places.is_input[here].any()))
        for layer, matrix, _, row in cuts:
            if 2 * layer + (matrix >= 2) == first:
                changed[row // self._sizes.d_attn if matrix == 0 else p.V + matrix] = True
        return first, changed

    def _run(
        self,
        variants: Sequence[Variant],
        first_halves: Array,
        changed: Array,
        entries: p.Entries,
        keeps: bool,
    ) -> Iterator[Array | None]:
        """One group of variants: None between steps, then their differences."""
        plan, prompts = self._plan, self._prompts
        gates = np.ones((len(variants), len(plan.nodes)), np.float32)
        for row, variant in zip(gates, variants, strict=True):
            slots = self._places.slot_of[variant.closed]
            row[slots[slots >= 0]] = 0
        cuts = [self._places.cuts(*variant.cuts) for variant in variants]
        differences = np.empty((len(variants), len(prompts)), np.float32)
        blocks = prompts.blocks()
        per_mask = self._cost * len(prompts.lanes.letters) / len(blocks)
        n_slices = max(-(-self._threads.n // len(blocks)), int(per_mask * len(variants) / _TASK))
        slices = np.array_split(np.arange(len(variants)), min(n_slices, len(variants)))
        tasks = [(block, slice(part[0], part[-1] + 1)) for part in slices for block in blocks]

        def run_one(number: int, _: int) -> None:
            (begin, end), masks = tasks[number]
            n_lanes = int(prompts.lanes.starts[end] - prompts.lanes.starts[begin])
            room = self._room(n_lanes, end - begin)
            score_masks(
                plan, prompts.lanes, gates[masks], _stacked(cuts[masks]), first_halves[masks],
                changed[masks], begin, end, entries, keeps, room[1], differences[masks],
            )  # fmt: skip
            self._rooms.put(room)

        yield from self._threads.in_steps(run_one, len(tasks))
        yield differences

    def _room(self, n_lanes: int, n_rows: int) -> tuple[tuple[int, int], Work]:
        while not self._rooms.empty():
            room = self._rooms.get()
            if room[0][0] >= n_lanes and room[0][1] >= n_rows:
                return room
        return (n_lanes, n_rows), make_work(self._plan, n_lanes, n_rows)


class _Places:
    """Where nodes and edges of the network are in a plan."""

    def __init__(self, plan: p.Plan, sizes: Sizes, n_nodes: int) -> None:
        self._plan, self._sizes = plan, sizes
        n_slots = len(plan.nodes)
        self.slot_of = np.full(n_nodes, -1, np.int64)
        self.slot_of[plan.nodes] = np.arange(n_slots)
        self.half_of_slot = np.full(n_slots, 2 * sizes.n_layer, np.int64)
        self.is_input = np.zeros(n_slots, bool)
        self.is_input[plan.inputs.slot] = True
        halves = np.arange(2 * sizes.n_layer)
        self.half_of_slot[plan.inputs.slot] = np.repeat(halves, np.diff(plan.inputs.start))
        parts = np.arange(p.N_PARTS * sizes.n_layer)
        half_of_part = 2 * (parts // p.N_PARTS) + (parts % p.N_PARTS >= p.HIDDEN)
        counts = np.diff(plan.rows.candidate_start)
        self.half_of_slot[plan.rows.slot] = np.repeat(half_of_part, counts)

    def cuts(self, places: Array, weights: Array, fills: Array) -> list[tuple[float, ...]]:
        """Cut edges as the kernel takes them. Those that carry nothing but constants, and those
        that nothing reads, are left out.
        """
        return [
            (*place, float(weight), float(fill), head)
            for edge, weight, fill in zip(places.tolist(), weights, fills, strict=True)
            for place, head in [self._place(*edge)]
            if place is not None
        ]

    def _place(
        self, layer: int, matrix: int, source: int, row: int
    ) -> tuple[tuple[int, int, int] | None, int]:
        rows, inputs, d_attn = self._plan.rows, self._plan.inputs, self._sizes.d_attn
        within, row = (divmod(row, d_attn)) if matrix == 0 else (p.V + matrix, row)
        part, head = p.N_PARTS * layer + within, -1
        if matrix in (0, 2):
            half = 2 * layer + matrix // 2
            own = inputs.channel[inputs.start[half] : inputs.start[half + 1]]
        else:
            of = p.N_PARTS * layer + (p.V if matrix == 1 else p.HIDDEN)
            own = rows.channel[rows.candidate_start[of] : rows.candidate_start[of + 1]]
        at_source = int(np.searchsorted(own, source))
        if at_source == len(own) or own[at_source] != source:
            return None, head
        its = rows.row[rows.row_start[part] : rows.row_start[part + 1]]
        at_row = int(np.searchsorted(its, row))
        if at_row == len(its) or its[at_row] != row:
            return None, head
        if matrix == 1:
            heads = self._plan.heads
            own_heads = slice(heads.start[layer], heads.start[layer + 1])
            first = heads.first_value[own_heads] <= at_source
            head = int(np.flatnonzero(first & (at_source < heads.last_value[own_heads]))[0])
        return (part, at_source, at_row), head


def _stacked(cuts: Sequence[list[tuple[float, ...]]]) -> p.Cuts:
    """The cuts of several masks, one after another."""
    start = np.concatenate([[0], np.cumsum([len(own) for own in cuts])]).astype(np.int64)
    columns = list(zip(*[cut for own in cuts for cut in own], strict=True)) or [()] * 6
    part, source, to, weight, fill, head = columns
    return p.Cuts(
        start=start,
        part=np.array(part, np.int64),
        source=np.array(source, np.int64),
        to=np.array(to, np.int64),
        weight=np.array(weight, np.float32),
        fill=np.array(fill, np.float32),
        head=np.array(head, np.int64),
    )


def _no_entries() -> p.Entries:
    none = np.empty((0, 0, 0), np.float32)
    return p.Entries(none, none, np.empty((0, 0), np.float32))


def _cost(plan: p.Plan) -> float:
    """Operations per token and mask, roughly: comparisons and multiplications."""
    n_rows, n_candidates = np.diff(plan.rows.row_start), np.diff(plan.rows.candidate_start)
    n_rivals = plan.stream.n_varying[:-1] + plan.shape.d_pos
    heads, n_all = plan.heads, plan.heads.start[max(0, plan.shape.turn // 2)]
    n_pairs = np.diff(heads.pair_start)[:n_all]
    n_values = (heads.last_value - heads.first_value)[:n_all]
    per_key = (n_pairs + n_values + _EXPONENTIAL)[n_pairs > 0].sum()
    of_parts = (n_rows * n_candidates).sum() + len(plan.rows.edge_to) + len(plan.nodes)
    of_inputs = (np.diff(plan.inputs.start) * n_rivals).sum()
    return float(1 + of_parts + of_inputs + per_key * plan.shape.longest)


def is_worth_compiling(net: Network, sizes: Sizes, kept: Array) -> bool:
    """Whether so few nodes are `kept` (BOOL [n_nodes]) that counting what beats each is cheaper
    than selecting among all channels, as the general kernels do.
    """
    s = sizes
    widths = [s.d_in, s.d_attn, s.d_attn, s.d_attn, s.d_model, s.d_in, s.d_mlp, s.d_model]
    n_open = np.stack(
        [
            [len(np.flatnonzero(part)) for part in np.split(layer, np.cumsum(widths)[:-1])]
            for layer in kept[: -s.d_model].reshape(s.n_layer, -1)
        ]
    )
    attn_in, k, q, v, attn_out, mlp_in, hidden, mlp_out = n_open.T
    density = len(net.values) / (
        s.n_layer * (3 * s.d_attn * s.d_in + 2 * s.d_attn * s.d_model + 2 * s.d_mlp * s.d_in)
    )

    def rivals(n_sources: Array, width: int) -> Array:
        return width * (1 - (1 - density) ** n_sources)

    n_written = np.cumsum(attn_out + mlp_out)
    ours = (
        attn_in * n_written
        + (q + k + v) * rivals(attn_in, s.d_attn)
        + attn_out * rivals(v + (s.d_attn // s.n_head) * (q + k), s.d_model)
        + mlp_in * n_written
        + hidden * rivals(mlp_in, s.d_mlp)
        + mlp_out * rivals(hidden, s.d_model)
    )
    passes = 8  # of the selection over every channel, in such comparisons
    return bool(ours.sum() < passes * sum(widths) * s.n_layer)

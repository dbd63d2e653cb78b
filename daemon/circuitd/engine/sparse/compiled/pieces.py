"""Pieces that a plan is put together from: parts, heads, the edges of a few sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.lanes.layout import Network

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@dataclass
class Part:
    """One part under construction; see `plan.Rows`."""

    rows: Array = field(default_factory=lambda: np.empty(0, np.int64))
    bias: Array = field(default_factory=lambda: np.empty(0, _F))
    edges_of: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    edge_to: Array = field(default_factory=lambda: np.empty(0, np.int64))
    edge_weight: Array = field(default_factory=lambda: np.empty(0, _F))
    channels: Array = field(default_factory=lambda: np.empty(0, np.int64))
    slots: Array = field(default_factory=lambda: np.empty(0, np.int64))
    varying: Array = field(default_factory=lambda: np.empty(0, np.int64))
    ranks: Array = field(default_factory=lambda: np.empty(0, np.int64))
    values: Array = field(default_factory=lambda: np.empty(0, _F))
    kept: int = 0
    windows: Array = field(default_factory=lambda: np.empty(0, np.int64))
    by_position: Array | None = None


class HeadLists:
    """Heads under construction, of all layers; see `plan.Heads`."""

    def __init__(self) -> None:
        self.start, self.lone_start, self.pair_start = [0], [0], [0]
        self.base: list[float] = []
        self.sink: list[float] = []
        self.source: list[int] = []
        self.first_value: list[int] = []
        self.last_value: list[int] = []
        self.lone: list[tuple[int, float]] = []
        self.pair: list[tuple[int, int, float]] = []

    def flat(self) -> p.Heads:
        """As arrays."""
        return p.Heads(
            start=np.array(self.start), base=np.array(self.base, _F),
            sink=np.array(self.sink, _F), source=np.array(self.source, np.int64),
            first_value=np.array(self.first_value, np.int64),
            last_value=np.array(self.last_value, np.int64),
            lone_start=np.array(self.lone_start),
            lone_query=np.array([lone[0] for lone in self.lone], np.int64),
            lone_fill=np.array([lone[1] for lone in self.lone], _F),
            pair_start=np.array(self.pair_start),
            pair_key=np.array([pair[0] for pair in self.pair], np.int64),
            pair_query=np.array([pair[1] for pair in self.pair], np.int64),
            pair_fill=np.array([pair[2] for pair in self.pair], _F),
        )  # fmt: skip


@jit
def fold_values(
    start: int,
    columns: Array,
    targets: Array,
    values: Array,
    fills: Array,
    d_head: int,
    varying: Array,
    frozen: Array,
    still: Array,
    shares: Array,
) -> None:
    """Send closed values' `fills` [d_attn] through the output projection: those of frozen heads to
    `still` [d, positions], of others, per unit of their share, to `shares` [d, varying heads].
    """
    for channel in range(fills.shape[0]):
        fill, head = fills[channel], channel // d_head
        if fill == 0:
            continue
        for at in range(columns[start + channel], columns[start + channel + 1]):
            flow = values[at] * fill
            if varying[head] >= 0:
                shares[targets[at], varying[head]] += flow
            else:
                to, share = still[targets[at]], frozen[head]
                for position in range(to.shape[0]):
                    to[position] += flow * share[position]


def edges_out_of(
    net: Network, layer: int, matrix: int, sources: Array
) -> tuple[Array, Array, Array]:
    """Of each nonzero weight out of `sources`: which source, the row, the weight."""
    at = net.column_start[layer, matrix] + sources
    begin, end = net.columns[at], net.columns[at + 1]
    counts = end - begin
    source = np.repeat(np.arange(len(sources)), counts)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(sources) else counts
    index = np.arange(len(source)) + np.repeat(begin - before, counts)
    return source, net.targets[index].astype(np.int64), net.values[index]


def flat(parts: list[Part]) -> p.Rows:
    """All parts, one after another."""
    by_position = [part.by_position for part in parts[p.ATTN_OUT :: p.N_PARTS]]
    present = [values for values in by_position if values is not None]
    n_static = [0 if values is None else len(values) for values in by_position]
    return p.Rows(
        row_start=_starts([len(part.rows) for part in parts]),
        row=joined([part.rows for part in parts]),
        bias=joined([part.bias for part in parts], _F),
        edge_at=_starts([len(part.edges_of) for part in parts])[:-1],
        edges_of=np.concatenate(
            [
                part.edges_of + first
                for part, first in zip(
                    parts, _starts([len(part.edge_to) for part in parts])[:-1], strict=True
                )
            ]
        ),
        edge_to=joined([part.edge_to for part in parts]),
        edge_weight=joined([part.edge_weight for part in parts], _F),
        candidate_start=_starts([len(part.channels) for part in parts]),
        slot=joined([part.slots for part in parts]),
        channel=joined([part.channels for part in parts]),
        varying=joined([part.varying for part in parts]),
        rank=joined([part.ranks for part in parts]),
        value=joined([part.values for part in parts], _F),
        kept=np.array([part.kept for part in parts]),
        window_at=_starts([len(part.windows) for part in parts])[:-1],
        windows=joined([part.windows for part in parts]),
        by_position_at=_starts(n_static)[:-1],
        by_position=np.concatenate(present) if present else np.zeros((0, 1), _F),
    )


def _starts(counts: list[int]) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def joined(arrays: list[Array], dtype: Any = np.int64) -> Array:
    """`arrays` [n] one after another, of `dtype` also if there are none."""
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.empty(0, dtype)

"""What one half block of a compiled circuit computes: its inputs, and its parts one by one.

Each candidate is counted against what varies, and the window of the rest says whether it stays: see
`windows`. Arrays are [rows, lanes]; a slot's value is fill + gate * (value - fill).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.compiled.windows import LAST_CHANNEL
from circuitd.engine.sparse.compiled.work import N_AT_ONCE, N_COUNTED, Work
from circuitd.engine.sparse.copying import copy_row, fill_row
from circuitd.engine.sparse.functions import activate
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.vectors import (
    LANES,
    MAGNITUDE,
    bits,
    load,
    load_at,
    ones,
    splat,
    store,
    store_at,
)

Array = np.ndarray[Any, Any]

_F: Final = np.float32
_LAST_CHANNEL: Final = np.int64(LAST_CHANNEL)


@jit
def read_inputs(
    plan: p.Plan,
    half: int,
    x: Array,
    letters: Array,
    positions: Array,
    gates: Array,
    work: Work,
    out: Array,
) -> None:
    """act_in of a half block: normed, selected, gated; for the circuit's own channels only."""
    inputs, stream, shape = plan.inputs, plan.stream, plan.shape
    first, last = inputs.start[half], inputs.start[half + 1]
    if first == last:
        return
    n, d = letters.shape[0], shape.d_model
    n_varying = stream.n_varying[half]
    n_rivals = n_varying + shape.d_pos
    inverse, own = work.floats[0, :n], work.floats[1, :n]
    squares = stream.squares[half]
    for lane in range(n):
        inverse[lane] = squares[letters[lane]]
    for i in range(n_varying):
        row = x[i, :n]
        for lane in range(n):
            inverse[lane] += row[lane] * row[lane]
    for lane in range(n):
        inverse[lane] = _F(1) / np.sqrt(inverse[lane] / _F(d) + _F(shape.norm_eps))
    kept = shape.mlp_in if half % 2 == 1 else shape.attn_in
    if kept > 0:
        for i in range(n_varying):
            gain, row, to = stream.gains[half, i], x[i, :n], work.rivals[i, :n]
            for lane in range(n):
                to[lane] = abs(row[lane] * gain)
        for i in range(shape.d_pos):
            to = work.rivals[n_varying + i, :n]
            for lane in range(n):
                to[lane] = abs(plan.positions[half, positions[lane], i]) / inverse[lane]
    for entry in range(first, last):
        slot, channel, varying = inputs.slot[entry], inputs.channel[entry], inputs.varying[entry]
        to, gate, gain = out[entry - first, :n], gates[slot], inputs.gain[entry]
        if gate == _F(0):
            fill_row(to, plan.fills[slot])
            continue
        rival = varying
        if channel >= d:
            rival = n_varying + channel - d
            for lane in range(n):
                to[lane] = plan.positions[half, positions[lane], channel - d]
        elif varying >= 0:
            row = x[varying, :n]
            for lane in range(n):
                to[lane] = row[lane] * inverse[lane] * gain
        else:
            static = inputs.static[entry]
            for lane in range(n):
                to[lane] = static[letters[lane]] * inverse[lane] * gain
        if kept > 0:
            if rival >= 0:
                copy_row(work.rivals[rival, :n], own)
            else:
                static = inputs.static[entry]
                for lane in range(n):
                    own[lane] = abs(static[letters[lane]] * gain)
            counts = work.counts[0, :n]
            rivals = work.rivals[:n_rivals]
            _count_rivals(rivals, stream.channels, n_varying, d, channel, own, counts)
            _drop(
                own, counts, channel, inputs.windows, inputs.window_at[half], n_rivals + 1, letters,
                to,
            )  # fmt: skip
        if gate != _F(1):
            mix(gate, plan.fills[slot], to)


@jit
def _count_rivals(
    rivals: Array, channels: Array, n_varying: int, d: int, channel: int, own: Array, counts: Array
) -> None:
    """How many of the varying channels' magnitudes, and of the positional ones, are larger than
    `own` [lanes], that of `channel`; among equals the earlier channel is.
    """
    for lane in range(0, own.shape[0], LANES):
        mine, count = bits(load_at(own, lane)), splat(0)
        for i in range(rivals.shape[0]):
            there = channels[i] if i < n_varying else d + i - n_varying
            less = mine - splat(1 if there < channel else 0)
            count -= ones(bits(load(rivals, i, lane)) > less)
        store_at(count, counts, lane)


@jit
def run_part(
    plan: p.Plan,
    part: int,
    sources: Array,
    positions: Array,
    gates: Array,
    cuts: p.Cuts,
    first_cut: int,
    last_cut: int,
    work: Work,
    out: Array,
) -> None:
    """One part: its varying rows from `sources`, activated if hidden; then its candidates."""
    rows = plan.rows
    if rows.candidate_start[part] == rows.candidate_start[part + 1]:
        return
    n = positions.shape[0]
    for begin in range(0, n, N_AT_ONCE):
        end = min(begin + N_AT_ONCE, n)
        n_vectors = (end - begin + LANES - 1) // LANES
        values = work.rows[: rows.row_start[part + 1] - rows.row_start[part], : n_vectors * LANES]
        of_positions = positions[begin:end]
        _multiply(rows, part, sources[:, begin:end], of_positions, values)
        for i in range(first_cut, last_cut):
            if cuts.part[i] == part:
                _cut(cuts, i, sources[:, begin:end], work.shares[:, begin:end], values)
        if part % p.N_PARTS == p.HIDDEN:
            activate(values, plan.shape.is_gelu)
        _choose(plan, part, values, of_positions, gates, work, out[:, begin:end])


@jit
def _multiply(rows: p.Rows, part: int, sources: Array, positions: Array, out: Array) -> None:
    """The varying rows before activation."""
    n, first = positions.shape[0], rows.row_start[part]
    if part % p.N_PARTS == p.ATTN_OUT:
        still = rows.by_position_at[part // p.N_PARTS]
        for i in range(out.shape[0]):
            constant, to = rows.by_position[still + i], out[i]
            for lane in range(n):
                to[lane] = constant[positions[lane]]
    else:
        for i in range(out.shape[0]):
            bias = splat(rows.bias[first + i])
            for lane in range(0, n, LANES):
                store(bias, out, i, lane)
    at = rows.edge_at[part]
    for source in range(_n_sources(rows, part)):
        for edge in range(rows.edges_of[at + source], rows.edges_of[at + source + 1]):
            weight, to_row = splat(rows.edge_weight[edge]), rows.edge_to[edge]
            for lane in range(0, n, LANES):
                flow = weight * load(sources, source, lane)
                store(load(out, to_row, lane) + flow, out, to_row, lane)


@jit
def _n_sources(rows: p.Rows, part: int) -> int:
    last = part + 1 == rows.edge_at.shape[0]
    end = rows.edges_of.shape[0] if last else rows.edge_at[part + 1]
    return end - rows.edge_at[part] - 1


@jit
def _cut(cuts: p.Cuts, i: int, sources: Array, shares: Array, out: Array) -> None:
    """Take from a row what flows along a cut edge, and put the fill instead."""
    weight, fill = cuts.weight[i], cuts.fill[i]
    row, to = sources[cuts.source[i]], out[cuts.to[i]]
    if cuts.part[i] % p.N_PARTS == p.ATTN_OUT:
        share = shares[cuts.head[i]]
        for lane in range(row.shape[0]):
            to[lane] += weight * (fill * share[lane] - row[lane])
    else:
        for lane in range(row.shape[0]):
            to[lane] += weight * (fill - row[lane])


@jit
def _choose(
    plan: p.Plan,
    part: int,
    values: Array,
    positions: Array,
    gates: Array,
    work: Work,
    out: Array,
) -> None:
    """The candidates after AbsTopK and gate, among the varying rows `values` and all others."""
    rows, n = plan.rows, positions.shape[0]
    n_rows = values.shape[0]
    first, last = rows.candidate_start[part], rows.candidate_start[part + 1]
    layer, is_out = part // p.N_PARTS, part % p.N_PARTS == p.ATTN_OUT
    n_open = 0
    for candidate in range(first, last):
        slot, varying, to = rows.slot[candidate], rows.varying[candidate], out[candidate - first]
        if gates[slot] == _F(0):
            fill_row(to, plan.fills[slot])
            continue
        work.open[n_open] = candidate
        n_open += 1
        if varying >= 0:
            for lane in range(0, n, LANES):
                store_at(load(values, varying, lane), to, lane)
        elif is_out:
            still = rows.by_position[rows.by_position_at[layer] + n_rows + candidate - first]
            for lane in range(n):
                to[lane] = still[positions[lane]]
        else:
            fill_row(to, rows.value[candidate])
    if rows.kept[part] > 0:
        stride = n_rows + 1 if is_out else 0
        for begin in range(0, n_open, N_COUNTED):
            _count_larger(rows, first, work.open[:n_open], begin, values, n, out, work.counts)
            for i in range(begin, min(begin + N_COUNTED, n_open)):
                candidate, counts = work.open[i], work.counts[i - begin, :n]
                to = out[candidate - first]
                _drop(
                    to, counts, rows.channel[candidate], rows.windows, rows.window_at[part], stride,
                    positions, to,
                )  # fmt: skip
    for i in range(n_open):
        candidate = work.open[i]
        slot = rows.slot[candidate]
        if gates[slot] != _F(1):
            mix(gates[slot], plan.fills[slot], out[candidate - first, :n])


@jit
def _count_larger(
    rows: p.Rows,
    first: int,
    candidates: Array,
    begin: int,
    values: Array,
    n: int,
    out: Array,
    counts: Array,
) -> None:
    """How many of `values` are larger than each of four candidates (or as many as there are from
    `begin` on), in magnitude; among equals the earlier channel is. `counts` [N_COUNTED, n].

    Both come in the order of their channels. Up to a candidate's own, rows count that are not
    smaller, from there on those that are larger.
    """
    last, magnitude, one = candidates.shape[0] - 1, splat(MAGNITUDE), splat(1)
    c0, c1 = candidates[begin], candidates[min(begin + 1, last)]
    c2, c3 = candidates[min(begin + 2, last)], candidates[min(begin + 3, last)]
    for lane in range(0, n, LANES):
        own0 = bits(load(out, c0 - first, lane)) & magnitude
        own1 = bits(load(out, c1 - first, lane)) & magnitude
        own2 = bits(load(out, c2 - first, lane)) & magnitude
        own3 = bits(load(out, c3 - first, lane)) & magnitude
        less0, less1, less2, less3 = own0 - one, own1 - one, own2 - one, own3 - one
        n0, n1, n2, n3 = splat(0), splat(0), splat(0), splat(0)
        row = 0
        for i in range(N_COUNTED + 1):
            stop = values.shape[0]
            if i < N_COUNTED:
                stop = rows.rank[candidates[min(begin + i, last)]]
            while row < stop:
                rival = bits(load(values, row, lane)) & magnitude
                n0 -= ones(rival > less0)
                n1 -= ones(rival > less1)
                n2 -= ones(rival > less2)
                n3 -= ones(rival > less3)
                row += 1
            less0 = own0
            less1 = own1 if i >= 1 else less1
            less2 = own2 if i >= 2 else less2
            less3 = own3 if i >= 3 else less3
        store(n0, counts, 0, lane)
        store(n1, counts, 1, lane)
        store(n2, counts, 2, lane)
        store(n3, counts, 3, lane)


@jit
def _drop(
    own: Array,
    counts: Array,
    channel: int,
    windows: Array,
    at: int,
    stride: int,
    letters: Array,
    to: Array,
) -> None:
    """Zero what is not among the largest, `own` being its value or magnitude: see `windows`."""
    order, patterns = _LAST_CHANNEL - channel, own.view(np.int32)
    for lane in range(counts.shape[0]):
        key = (np.int64(patterns[lane] & MAGNITUDE) << 32) | order
        if key < windows[at + letters[lane] * stride + counts[lane]]:
            to[lane] = _F(0)


@jit
def mix(gate: Any, fill: Any, to: Array) -> None:
    """Apply a gate that is neither open nor closed, in place."""
    for lane in range(to.shape[0]):
        to[lane] = fill + gate * (to[lane] - fill)

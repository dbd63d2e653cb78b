"""What one half block of a compiled circuit computes: its inputs, and its parts one by one.

Each candidate is counted against what varies, and the window of the rest says whether it stays: see
`windows`. Arrays are [rows, lanes]; a slot's value is fill + gate * (value - fill).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.compiled.windows import LAST_CHANNEL
from circuitd.engine.sparse.compiled.work import N_AT_ONCE, Work
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.lanes.kernels import activate

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
            to[:] = plan.fills[slot]
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
                own[:] = work.rivals[rival, :n]
            else:
                static = inputs.static[entry]
                for lane in range(n):
                    own[lane] = abs(static[letters[lane]] * gain)
            counts = work.counts[:n]
            counts[:] = 0
            for i in range(n_rivals):
                if i != rival:
                    there = stream.channels[i] if i < n_varying else d + i - n_varying
                    _count(work.rivals[i, :n], own, there < channel, counts)
            _drop(
                own, counts, channel, inputs.windows, inputs.window_at[half], n_rivals + 1, letters,
                to,
            )  # fmt: skip
        if gate != _F(1):
            mix(gate, plan.fills[slot], to)


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
        values = work.rows[: rows.row_start[part + 1] - rows.row_start[part], : end - begin]
        of_positions = positions[begin:end]
        _multiply(rows, part, sources[:, begin:end], of_positions, values)
        for i in range(first_cut, last_cut):
            if cuts.part[i] == part:
                _cut(cuts, i, sources[:, begin:end], work.shares[:, begin:end], values)
        if part % p.N_PARTS == p.HIDDEN:
            activate(values, plan.shape.is_gelu, values, work.slope)
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
            out[i, :] = rows.bias[first + i]
    n_sources = _n_sources(rows, part)
    at = rows.edge_at[part]
    for source in range(n_sources):
        row = sources[source]
        for edge in range(rows.edges_of[at + source], rows.edges_of[at + source + 1]):
            weight, to = rows.edge_weight[edge], out[rows.edge_to[edge]]
            for lane in range(n):
                to[lane] += weight * row[lane]


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
        for lane in range(to.shape[0]):
            to[lane] += weight * (fill * share[lane] - row[lane])
    else:
        for lane in range(to.shape[0]):
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
    first_row, n_rows = rows.row_start[part], values.shape[0]
    first, last = rows.candidate_start[part], rows.candidate_start[part + 1]
    layer, kept = part // p.N_PARTS, rows.kept[part]
    is_out = part % p.N_PARTS == p.ATTN_OUT
    own, counts = work.floats[1, :n], work.counts[:n]
    for candidate in range(first, last):
        slot, channel = rows.slot[candidate], rows.channel[candidate]
        varying, to, gate = rows.varying[candidate], out[candidate - first], gates[slot]
        if gate == _F(0):
            to[:] = plan.fills[slot]
            continue
        if varying >= 0:
            to[:] = values[varying]
        elif is_out:
            still = rows.by_position[rows.by_position_at[layer] + n_rows + candidate - first]
            for lane in range(n):
                to[lane] = still[positions[lane]]
        else:
            to[:] = rows.value[candidate]
        if kept > 0:
            for lane in range(n):
                own[lane] = abs(to[lane])
            counts[:] = 0
            for i in range(n_rows):
                if i != varying:
                    _count(values[i], own, rows.row[first_row + i] < channel, counts)
            stride = n_rows + 1 if is_out else 0
            _drop(own, counts, channel, rows.windows, rows.window_at[part], stride, positions, to)
        if gate != _F(1):
            mix(gate, plan.fills[slot], to)


@jit
def _count(rival: Array, own: Array, is_earlier: bool, counts: Array) -> None:
    """Count the lanes in which a rival is larger; among equals the earlier channel is."""
    if is_earlier:
        for lane in range(counts.shape[0]):
            counts[lane] += np.int32(abs(rival[lane]) >= own[lane])
    else:
        for lane in range(counts.shape[0]):
            counts[lane] += np.int32(abs(rival[lane]) > own[lane])


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
    """Zero what is not among the largest: see `windows`."""
    order, bits = _LAST_CHANNEL - channel, own.view(np.int32)
    for lane in range(to.shape[0]):
        key = (np.int64(bits[lane]) << 32) | order
        if key < windows[at + letters[lane] * stride + counts[lane]]:
            to[lane] = _F(0)


@jit
def mix(gate: Any, fill: Any, to: Array) -> None:
    """Apply a gate that is neither open nor closed, in place."""
    for lane in range(to.shape[0]):
        to[lane] = fill + gate * (to[lane] - fill)

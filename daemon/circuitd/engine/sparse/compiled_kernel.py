"""A compiled circuit on lanes: half block by half block, each mask from where it first differs.

Read beside `network.forward_block`, which computes the same for all channels. Arrays are [rows,
lanes]; a lane is a token up to the plan's turn, and a prompt (its last token) after it. A slot's
value is fill + gate * (value - fill).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from circuitd.engine.sparse import compiled_plan as p
from circuitd.engine.sparse.compiled_attention import attend_all, attend_last
from circuitd.engine.sparse.compiled_prompts import Lanes
from circuitd.engine.sparse.compiled_windows import LAST_CHANNEL
from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.kernels import activate

Array = np.ndarray[Any, Any]

_F: Final = np.float32
_LAST_CHANNEL: Final = np.int64(LAST_CHANNEL)
#: Lanes that a part is worked out for at once: its rows then stay in the second-level cache.
N_AT_ONCE: Final = 128


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
    """The varying channels of the stream on entry of each half block under a base: of all tokens
    before the turn, of last tokens from it on.
    """

    of_tokens: Array  # [turn, n, lanes]
    of_lasts: Array  # [2 L + 1 - turn, n, B]


class Work(NamedTuple):
    """Room for one block of prompts."""

    stream: Array  # [n, lanes]
    stream_last: Array  # [n, prompts]
    inputs: Array  # [most of a half block, lanes]
    inputs_last: Array
    queries: Array  # [most candidates, lanes]
    keys: Array
    values: Array
    outputs: Array
    seen: Array  # [most sources of ATTN_OUT, lanes]
    shares: Array  # [most heads of a layer, lanes]
    rows: Array  # [most rows of a part, N_AT_ONCE]
    slope: Array  # likewise
    rivals: Array  # [n + d_pos, lanes]
    floats: Array  # [3, lanes]
    counts: Array  # int32 [lanes]
    pattern: Array  # [longest + 1, lanes]
    pairs: Array  # [2, most open keys of a head + 1, lanes]
    prefix: Array  # [most open values of a head, lanes]


def make_work(plan: p.Plan, n_lanes: int, n_rows: int) -> Work:
    """Room for a block of `n_rows` prompts with `n_lanes` tokens in all."""
    shape, rows, heads = plan.shape, plan.rows, plan.heads
    lanes = n_lanes if shape.turn else n_rows

    def most(start: Array, of: slice = slice(None)) -> int:
        return max(np.diff(start)[of].tolist(), default=0)

    def room(*size: int) -> Array:
        return np.empty(size, np.float32)

    def candidates(part: int) -> int:
        return most(rows.candidate_start, slice(part, None, p.N_PARTS))

    n, n_in = len(plan.stream.channels), most(plan.inputs.start)
    n_pairs = most(heads.pair_start)
    n_values = max((heads.last_value - heads.first_value).tolist(), default=0)
    n_outputs = max(candidates(p.ATTN_OUT), candidates(p.MLP_OUT))
    attends = bool(n_pairs) and shape.turn > 0
    n_sources = candidates(p.V) + most(heads.start)
    return Work(
        stream=room(n, lanes), stream_last=room(n, n_rows), inputs=room(n_in, lanes),
        inputs_last=room(n_in, n_rows), queries=room(candidates(p.Q), lanes),
        keys=room(candidates(p.K), lanes),
        values=room(max(candidates(p.V), candidates(p.HIDDEN)), lanes),
        outputs=room(n_outputs, lanes), seen=room(n_sources, lanes),
        shares=room(most(heads.start), lanes), rows=room(most(rows.row_start), N_AT_ONCE),
        slope=room(most(rows.row_start), N_AT_ONCE), rivals=room(n + shape.d_pos, lanes),
        floats=room(3, lanes), counts=np.empty(lanes, np.int32),
        pattern=room(shape.longest + 1 if attends else 0, lanes),
        pairs=room(2, n_pairs + 1, lanes), prefix=room(n_values, lanes),
    )  # fmt: skip


@jit
def score_masks(
    plan: p.Plan,
    lanes: Lanes,
    gates: Array,
    cuts: Cuts,
    first_halves: Array,
    begin: int,
    end: int,
    entries: Entries,
    keeps: bool,
    work: Work,
    differences: Array,
) -> None:
    """Right minus wrong answer's logit of prompts `begin` to `end` under each mask.

    `gates` [masks, slots]; mask m starts at half block `first_halves[m]` (2 L: only the end) from
    `entries`, or at 0 from the embeddings. `keeps`: fill `entries` instead, with the one mask's.
    `differences` [masks, B].
    """
    for mask in range(gates.shape[0]):
        _score_mask(
            plan, lanes, gates[mask], cuts, cuts.start[mask], cuts.start[mask + 1],
            first_halves[mask], begin, end, entries, keeps, work, differences[mask],
        )  # fmt: skip


@jit
def _score_mask(
    plan: p.Plan,
    lanes: Lanes,
    gates: Array,
    cuts: Cuts,
    first_cut: int,
    last_cut: int,
    first_half: int,
    begin: int,
    end: int,
    entries: Entries,
    keeps: bool,
    work: Work,
    differences: Array,
) -> None:
    shape, stream = plan.shape, plan.stream
    turn, halves = shape.turn, 2 * shape.n_layer
    first, last = lanes.starts[begin], lanes.starts[end]
    n, n_last = last - first, end - begin
    x, x_last = work.stream[:, : max(n if turn > 0 else 0, 0)], work.stream_last[:, :n_last]
    letters, positions = lanes.letters[first:last], lanes.positions[first:last]
    letters_last = lanes.last_letters[begin:end]
    positions_last = lanes.last_positions[begin:end]
    ends = lanes.starts[begin + 1 : end + 1]
    if first_half == 0:
        if turn > 0:
            _embed(stream, letters, x)
        else:
            _embed(stream, letters_last, x_last)
    elif first_half < turn:
        x[:] = entries.of_tokens[first_half, :, first:last]
    else:
        x_last[:] = entries.of_lasts[first_half - turn, :, begin:end]
    for half in range(first_half, halves):
        layer = half // 2
        here, here_letters, here_positions = x, letters, positions
        if half >= turn:
            here, here_letters, here_positions = x_last, letters_last, positions_last
        if keeps:
            if half < turn:
                entries.of_tokens[half, :, first:last] = x
            else:
                entries.of_lasts[half - turn, :, begin:end] = x_last
        n_here = len(here_letters)
        n_inputs = plan.inputs.start[half + 1] - plan.inputs.start[half]
        inputs = work.inputs[:n_inputs, :n_here]
        _read(plan, half, here, here_letters, here_positions, gates, work, inputs)
        if half % 2 == 1:
            hidden = p.N_PARTS * layer + p.HIDDEN
            _part(
                plan, hidden, inputs, here_positions, gates, cuts, first_cut, last_cut, work,
                work.values,
            )  # fmt: skip
            _part(
                plan, hidden + 1, work.values, here_positions, gates, cuts, first_cut, last_cut,
                work, work.outputs,
            )  # fmt: skip
            _write(stream, half, work.outputs, here)
            continue
        to, to_positions, to_inputs = here, here_positions, inputs
        part = p.N_PARTS * layer
        if half == turn - 1:
            to, to_positions = x_last, positions_last
            to_inputs = work.inputs_last[:n_inputs, :n_last]
            _take_last(x, ends, first, x_last)
            _take_last(inputs, ends, first, to_inputs)
        _part(
            plan, part + p.Q, to_inputs, to_positions, gates, cuts, first_cut, last_cut, work,
            work.queries,
        )  # fmt: skip
        for other in range(p.K, p.V + 1):
            _part(
                plan, part + other, inputs, here_positions, gates, cuts, first_cut, last_cut,
                work, work.keys if other == p.K else work.values,
            )  # fmt: skip
        if half < turn - 1:
            attend_all(
                plan.shape, plan.heads, layer, work.queries, work.keys, work.values, positions,
                work.pattern, work.pairs, work.prefix, work.seen, work.shares,
            )  # fmt: skip
        else:
            attend_last(
                plan.shape, plan.heads, layer, work.queries, work.keys, work.values, positions,
                ends - first, to_positions, work.floats[0], work.prefix, work.seen, work.shares,
            )  # fmt: skip
        _part(
            plan, part + p.ATTN_OUT, work.seen, to_positions, gates, cuts, first_cut, last_cut,
            work, work.outputs,
        )  # fmt: skip
        _write(stream, half, work.outputs, to)
    if keeps:
        entries.of_lasts[halves - turn, :, begin:end] = x_last
    _finish(plan, x_last, letters_last, begin, gates, work, differences)


@jit
def _embed(stream: p.Stream, letters: Array, x: Array) -> None:
    for i in range(x.shape[0]):
        row, to = stream.embeddings[i], x[i]
        for lane in range(letters.shape[0]):
            to[lane] = row[letters[lane]]


@jit
def _take_last(x: Array, ends: Array, first: int, out: Array) -> None:
    for i in range(out.shape[0]):
        for prompt in range(ends.shape[0]):
            out[i, prompt] = x[i, ends[prompt] - first - 1]


@jit
def _read(
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
            _mix(gate, plan.fills[slot], to)


@jit
def _part(
    plan: p.Plan,
    part: int,
    sources: Array,
    positions: Array,
    gates: Array,
    cuts: Cuts,
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
def _cut(cuts: Cuts, i: int, sources: Array, shares: Array, out: Array) -> None:
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
            _mix(gate, plan.fills[slot], to)


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
    """Zero what is not among the largest: see `compiled_windows`."""
    order, bits = _LAST_CHANNEL - channel, own.view(np.int32)
    for lane in range(to.shape[0]):
        key = (np.int64(bits[lane]) << 32) | order
        if key < windows[at + letters[lane] * stride + counts[lane]]:
            to[lane] = _F(0)


@jit
def _mix(gate: Any, fill: Any, to: Array) -> None:
    for lane in range(to.shape[0]):
        to[lane] = fill + gate * (to[lane] - fill)


@jit
def _write(stream: p.Stream, half: int, outputs: Array, x: Array) -> None:
    """Add what the half block writes to the varying channels, open or closed."""
    for i in range(x.shape[0]):
        writer, to = stream.writers[half, i], x[i]
        if writer >= 0:
            row = outputs[writer]
            for lane in range(to.shape[0]):
                to[lane] += row[lane]
        else:
            fill = stream.fills[half, i]
            for lane in range(to.shape[0]):
                to[lane] += fill


@jit
def _finish(
    plan: p.Plan, x: Array, letters: Array, begin: int, gates: Array, work: Work, out: Array
) -> None:
    """final_resid, the final norm, and the difference of the two logits."""
    ending, shape, n = plan.ending, plan.shape, letters.shape[0]
    along, square, value = work.floats[0, :n], work.floats[1, :n], work.floats[2, :n]
    for lane in range(n):
        along[lane] = ending.rest[begin + lane]
        square[lane] = _F(ending.square)
    for i in range(ending.slot.shape[0]):
        slot, varying = ending.slot[i], ending.varying[i]
        gate = gates[slot]
        if gate == _F(0):
            value[:] = plan.fills[slot]
        else:
            if varying >= 0:
                value[:] = x[varying]
            else:
                for lane in range(n):
                    value[lane] = ending.static[i, letters[lane]]
            if gate != _F(1):
                _mix(gate, plan.fills[slot], value)
        weight = ending.weight[i, begin : begin + n]
        for lane in range(n):
            along[lane] += weight[lane] * value[lane]
            square[lane] += value[lane] * value[lane]
    for lane in range(n):
        inverse = _F(1) / np.sqrt(square[lane] / _F(shape.d_model) + _F(shape.norm_eps))
        out[begin + lane] = along[lane] * inverse + ending.bias[begin + lane]

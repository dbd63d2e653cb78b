"""A compiled circuit on lanes: half block by half block, each mask from where it first differs.

Read beside `network.forward_block`, which computes the same for all channels. Arrays are [rows,
lanes]; a lane is a token up to the plan's turn, and a prompt (its last token) after it. A slot's
value is fill + gate * (value - fill).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.compiled import plan as p
from circuitd.engine.sparse.compiled.attention import attend_all, attend_last
from circuitd.engine.sparse.compiled.prompts import Lanes
from circuitd.engine.sparse.compiled.rows import mix, read_inputs, run_part
from circuitd.engine.sparse.compiled.work import Work
from circuitd.engine.sparse.copying import copy_row, copy_rows, fill_row
from circuitd.engine.sparse.jit import jit

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit
def score_masks(
    plan: p.Plan,
    lanes: Lanes,
    gates: Array,
    cuts: p.Cuts,
    first_halves: Array,
    changed: Array,
    begin: int,
    end: int,
    entries: p.Entries,
    keeps: bool,
    work: Work,
    differences: Array,
) -> None:
    """Right minus wrong answer's logit of prompts `begin` to `end` under each mask.

    `gates` [masks, slots]; mask m starts at half block `first_halves[m]` (2 L: only the end) from
    `entries`, or at 0 from the embeddings. Of the parts of that half block only those `changed`
    [masks, 6] are worked out again. `keeps`: fill `entries` instead, with the one mask's.
    `differences` [masks, B].
    """
    for mask in range(gates.shape[0]):
        _score_mask(
            plan, lanes, gates[mask], cuts, cuts.start[mask], cuts.start[mask + 1],
            first_halves[mask], changed[mask], begin, end, entries, keeps, work, differences[mask],
        )  # fmt: skip


@jit
def _score_mask(
    plan: p.Plan,
    lanes: Lanes,
    gates: Array,
    cuts: p.Cuts,
    first_cut: int,
    last_cut: int,
    first_half: int,
    changed: Array,
    begin: int,
    end: int,
    entries: p.Entries,
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
        copy_rows(entries.of_tokens[first_half, :, first:last], x)
    else:
        copy_rows(entries.of_lasts[first_half - turn, :, begin:end], x_last)
    for half in range(first_half, halves):
        layer = half // 2
        here, here_letters, here_positions = x, letters, positions
        if half >= turn:
            here, here_letters, here_positions = x_last, letters_last, positions_last
        if keeps:
            if half < turn:
                copy_rows(x, entries.of_tokens[half, :, first:last])
            else:
                copy_rows(x_last, entries.of_lasts[half - turn, :, begin:end])
        # Nothing varies yet: tokens of one letter are alike, so each letter is worked out once.
        by_letter = half == 0 and turn > 0 and shape.d_pos == 0
        if by_letter:
            here_letters = lanes.block_letters[lanes.block_start[begin] : lanes.block_end[begin]]
        n_here = len(here_letters)
        n_inputs = plan.inputs.start[half + 1] - plan.inputs.start[half]
        inputs = work.inputs[:n_inputs, :n_here]
        read_inputs(plan, half, here, here_letters, here_positions, gates, work, inputs)
        if half % 2 == 1:
            hidden = p.N_PARTS * layer + p.HIDDEN
            if half > first_half or half >= turn or changed[p.HIDDEN]:
                run_part(
                    plan, hidden, inputs, here_positions, gates, cuts, first_cut, last_cut, work,
                    work.values,
                )  # fmt: skip
            else:
                _take_kept(plan, hidden, entries, first, last, gates, work.values)
            if keeps and half < turn:
                _keep(plan.rows, hidden, work.values, first, last, entries)
            run_part(
                plan, hidden + 1, work.values, here_positions, gates, cuts, first_cut, last_cut,
                work, work.outputs,
            )  # fmt: skip
            _write(stream, half, work.outputs, here)
            continue
        part = p.N_PARTS * layer
        for other in range(p.K, p.V + 1):
            to_other = work.keys if other == p.K else work.values
            if half > first_half or half >= turn or changed[other]:
                run_part(
                    plan, part + other, inputs, here_positions[:n_here], gates, cuts, first_cut,
                    last_cut, work, to_other,
                )  # fmt: skip
                if by_letter:
                    n_other = _n_candidates(plan.rows, part + other)
                    _spread(lanes.in_block[first:last], work.floats[2], to_other[:n_other])
            else:
                _take_kept(plan, part + other, entries, first, last, gates, to_other)
            if keeps and half < turn:
                _keep(plan.rows, part + other, to_other, first, last, entries)
        if by_letter:
            inputs = work.inputs[:n_inputs, :n]
            _spread(lanes.in_block[first:last], work.floats[2], inputs)
        to, to_positions, to_inputs = here, here_positions, inputs
        if half == turn - 1:
            to, to_positions = x_last, positions_last
            to_inputs = work.inputs_last[:n_inputs, :n_last]
            _take_last(x, ends, first, x_last)
            _take_last(inputs, ends, first, to_inputs)
        run_part(
            plan, part + p.Q, to_inputs, to_positions, gates, cuts, first_cut, last_cut, work,
            work.queries,
        )  # fmt: skip
        if half < turn - 1:
            attend_all(
                plan.shape, plan.heads, layer, work.queries, work.keys, work.values, positions,
                work.starts, work.scores, work.pairs, work.prefix, work.seen, work.shares,
            )  # fmt: skip
        else:
            attend_last(
                plan.shape, plan.heads, layer, work.queries, work.keys, work.values, positions,
                ends - first, to_positions, work.floats[0], work.prefix, work.seen, work.shares,
            )  # fmt: skip
        run_part(
            plan, part + p.ATTN_OUT, work.seen, to_positions, gates, cuts, first_cut, last_cut,
            work, work.outputs,
        )  # fmt: skip
        _write(stream, half, work.outputs, to)
    if keeps:
        copy_rows(x_last, entries.of_lasts[halves - turn, :, begin:end])
    _finish(plan, x_last, letters_last, begin, gates, work, differences)


@jit
def _n_candidates(rows: p.Rows, part: int) -> int:
    return rows.candidate_start[part + 1] - rows.candidate_start[part]


@jit
def _spread(places: Array, scratch: Array, values: Array) -> None:
    """From letters to lanes, in place: each lane becomes what is at its letter's place."""
    n = places.shape[0]
    for i in range(values.shape[0]):
        row = values[i]
        copy_row(row[:n], scratch)
        for lane in range(n):
            row[lane] = scratch[places[lane]]


@jit
def _keep(
    rows: p.Rows, part: int, values: Array, first: int, last: int, entries: p.Entries
) -> None:
    begin, end = rows.candidate_start[part], rows.candidate_start[part + 1]
    for candidate in range(begin, end):
        kept = entries.candidates[candidate, first:last]
        copy_row(values[candidate - begin, : last - first], kept)


@jit
def _take_kept(
    plan: p.Plan,
    part: int,
    entries: p.Entries,
    first: int,
    last: int,
    gates: Array,
    out: Array,
) -> None:
    """A part whose rows are those of the base: only gates may differ."""
    rows = plan.rows
    begin, end = rows.candidate_start[part], rows.candidate_start[part + 1]
    for candidate in range(begin, end):
        slot, to = rows.slot[candidate], out[candidate - begin, : last - first]
        if gates[slot] == _F(0):
            fill_row(to, plan.fills[slot])
        else:
            copy_row(entries.candidates[candidate, first:last], to)


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
            fill_row(value, plan.fills[slot])
        else:
            if varying >= 0:
                copy_row(x[varying], value)
            else:
                for lane in range(n):
                    value[lane] = ending.static[i, letters[lane]]
            if gate != _F(1):
                mix(gate, plan.fills[slot], value)
        weight = ending.weight[i, begin : begin + n]
        for lane in range(n):
            along[lane] += weight[lane] * value[lane]
            square[lane] += value[lane] * value[lane]
    for lane in range(n):
        inverse = _F(1) / np.sqrt(square[lane] / _F(shape.d_model) + _F(shape.norm_eps))
        out[begin + lane] = along[lane] * inverse + ending.bias[begin + lane]

"""The gated network on one block of lanes, as one compiled function; backward in `backward`.

The same function as `engine.gpt` with a gate on every node: value -> ablated + gate * (value -
ablated). Read beside it. The order of nodes is that of `circuits.nodes`; see `node_places`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.copying import copy_rows, fill_rows
from circuitd.engine.sparse.functions import activate
from circuitd.engine.sparse.jit import jit_exact
from circuitd.engine.sparse.lanes.attention import attend_heads
from circuitd.engine.sparse.lanes.kernels import (
    activate_with_slope,
    cut,
    fold_closed,
    gate,
    multiply,
    rms_norm,
)
from circuitd.engine.sparse.lanes.layout import Network, Sizes
from circuitd.engine.sparse.lanes.node_places import (
    attn_out_at,
    mlp_in_at,
    nodes_per_layer,
    post_act_at,
    qkv_at,
)
from circuitd.engine.sparse.lanes.work import Work
from circuitd.engine.sparse.select import keep_largest

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit_exact
def fold(net: Network, s: Sizes, gates: Array, ablated: Array, folded: Array) -> None:
    """Biases [L, 3 * d_attn + d_mlp + d] with what closed nodes add to c_attn, c_fc, mlp_proj."""
    width, qkv = nodes_per_layer(s), 3 * s.d_attn
    for i in range(s.n_layer):
        attn_in, mlp_in, post_act = (
            i * width,
            i * width + mlp_in_at(s),
            i * width + post_act_at(s),
        )
        fold_closed(
            gates[attn_in : attn_in + s.d_in], ablated[attn_in : attn_in + s.d_in],
            net.column_start[i, 0], net.columns, net.targets, net.values,
            net.attn_bias[i], folded[i, :qkv],
        )  # fmt: skip
        fold_closed(
            gates[mlp_in : mlp_in + s.d_in], ablated[mlp_in : mlp_in + s.d_in],
            net.column_start[i, 2], net.columns, net.targets, net.values,
            net.fc_bias[i], folded[i, qkv : qkv + s.d_mlp],
        )  # fmt: skip
        fold_closed(
            gates[post_act : post_act + s.d_mlp], ablated[post_act : post_act + s.d_mlp],
            net.column_start[i, 3], net.columns, net.targets, net.values,
            net.mlp_proj_bias[i], folded[i, qkv + s.d_mlp :],
        )  # fmt: skip


@jit_exact
def forward_block(
    net: Network,
    s: Sizes,
    gates: Array,
    ablated: Array,
    folded: Array,
    tokens: Array,
    positions: Array,
    starts: Array,
    lane_starts: Array,
    answers: Array,
    keeps_layers: bool,
    work: Work,
    differences: Array,
    first_layer: int,
    last_layer: int,
    cuts: Array,
    cut_weights: Array,
    cut_fills: Array,
) -> None:
    """Layers `first_layer` to `last_layer` of a block; after the last of the network, right minus
    wrong answer's logit at the last token of each sequence.

    `tokens`, `positions` int64 [lanes]; sequence i has lanes starts[i] to starts[i + 1], and lanes
    after the last are padding; `lane_starts` int32 [lanes]: where the sequence of each begins, of
    padding itself. `answers` int64 [sequences, 2]; `differences` [sequences]. The layers may be
    done some at a time; a pass that starts beyond the first one finds the stream there in
    `work.stream[0]` (and keeps no layers). `cuts`, `cut_weights`, `cut_fills`: edges, see `cut`.
    """
    n_lanes, d, qkv = len(tokens), s.d_model, 3 * s.d_attn
    width = nodes_per_layer(s)
    if first_layer == 0:
        x = work.stream[0]
        for channel in range(d):
            for lane in range(n_lanes):
                x[channel, lane] = net.wte[tokens[lane], channel]
        if net.wpe.shape[0]:
            for channel in range(d):
                for lane in range(n_lanes):
                    x[channel, lane] += net.wpe[positions[lane], channel]
    for i in range(first_layer, last_layer):
        at = i if keeps_layers else 0
        node = i * width
        middle = work.stream[2 * at + 1]
        _norm_in(net, s, 2 * i, 2 * at, s.attn_in, positions, work.attn_in[at], work)
        gated = work.gated[: s.d_in]
        g = gates[node : node + s.d_in]
        gate(work.attn_in[at], g, ablated[node : node + s.d_in], gated)
        multiply(net, i, 0, gated, g, folded[i, :qkv], net.attn_bias[i], work.qkv[at])
        cut(i, 0, cuts, cut_weights, cut_fills, gated, work.qkv[at])
        for part in range(3):
            kept = s.attn_q if part == 0 else (s.attn_k if part == 1 else s.attn_v)
            rows = slice(part * s.d_attn, (part + 1) * s.d_attn)
            first = node + qkv_at(s, part)
            keep_largest(work.qkv[at, rows], kept, work.selection)
            gate(
                work.qkv[at, rows], gates[first : first + s.d_attn],
                ablated[first : first + s.d_attn], work.gated_qkv[rows],
            )  # fmt: skip
        attend_heads(
            work.gated_qkv[: s.d_attn], work.gated_qkv[s.d_attn : 2 * s.d_attn],
            work.gated_qkv[2 * s.d_attn :], net.sinks[i], lane_starts, s.n_head, work.shares,
            work.y,
        )  # fmt: skip
        bias = net.attn_proj_bias[i]
        multiply(net, i, 1, work.y, work.ones[: s.d_attn], bias, bias, work.attn_out[at])
        _cut_values(s, i, net.sinks[i], lane_starts, cuts, cut_weights, cut_fills, work, at)
        first = node + attn_out_at(s)
        _add(work, work.attn_out[at], s.attn_out, gates, ablated, first, 2 * at, middle)

        node += mlp_in_at(s)
        after = work.stream[2 * at + 2]
        _norm_in(net, s, 2 * i + 1, 2 * at + 1, s.mlp_in, positions, work.mlp_in[at], work)
        g = gates[node : node + s.d_in]
        gate(work.mlp_in[at], g, ablated[node : node + s.d_in], gated)
        pre = work.post_act[at]
        multiply(net, i, 2, gated, g, folded[i, qkv : qkv + s.d_mlp], net.fc_bias[i], pre)
        cut(i, 2, cuts, cut_weights, cut_fills, gated, pre)
        if keeps_layers:
            activate_with_slope(pre, s.is_gelu, work.slope[at])
        else:
            activate(pre, s.is_gelu)
        keep_largest(pre, s.mlp_neuron, work.selection)
        node += s.d_in
        g = gates[node : node + s.d_mlp]
        gated_mlp = work.gated[: s.d_mlp]
        gate(pre, g, ablated[node : node + s.d_mlp], gated_mlp)
        bias = net.mlp_proj_bias[i]
        multiply(net, i, 3, gated_mlp, g, folded[i, qkv + s.d_mlp :], bias, work.mlp_out[at])
        cut(i, 3, cuts, cut_weights, cut_fills, gated_mlp, work.mlp_out[at])
        first = node + s.d_mlp
        _add(work, work.mlp_out[at], s.mlp_out, gates, ablated, first, 2 * at + 1, after)
        if not keeps_layers:
            copy_rows(after, work.stream[0])
    if last_layer < s.n_layer:
        return
    end = 2 * s.n_layer if keeps_layers else 0
    final = s.n_layer * width
    gated = work.gated[:d]
    gate(work.stream[end], gates[final:], ablated[final:], gated)
    normed = work.grad_stream
    rms_norm(gated, net.gains[2 * s.n_layer], s.norm_eps, work.inverse[end], normed)
    for sequence in range(len(starts) - 1):
        last = starts[sequence + 1] - 1
        right, wrong = answers[sequence, 0], answers[sequence, 1]
        difference = net.logits_bias[right] - net.logits_bias[wrong]
        for channel in range(d):
            difference += (net.lm_head[right, channel] - net.lm_head[wrong, channel]) * normed[
                channel, last
            ]
        if net.bigrams.shape[0]:
            difference += net.bigrams[tokens[last], right] - net.bigrams[tokens[last], wrong]
        differences[sequence] = difference


@jit_exact
def _cut_values(
    s: Sizes,
    layer: int,
    sinks: Array,
    lane_starts: Array,
    cuts: Array,
    cut_weights: Array,
    cut_fills: Array,
    work: Work,
    at: int,
) -> None:
    """Cut edges out of v: what they carry is attended to, so their head attends once more, to the
    values minus the fill.
    """
    d_head = s.d_attn // s.n_head
    for i in range(cuts.shape[0]):
        if cuts[i, 0] != layer or cuts[i, 1] != 1:
            continue
        w, fill, source = cut_weights[i], cut_fills[i], cuts[i, 2]
        head = source // d_head
        own = slice(head * d_head, (head + 1) * d_head)
        shifted, seen = work.gated[:d_head], work.y[:d_head]
        value, to = work.gated_qkv[2 * s.d_attn + source], shifted[source - head * d_head]
        fill_rows(shifted, _F(0))
        for lane in range(to.shape[0]):
            to[lane] = value[lane] - fill
        q, k = work.gated_qkv[: s.d_attn], work.gated_qkv[s.d_attn : 2 * s.d_attn]
        attend_heads(
            q[own], k[own], shifted, sinks[head : head + 1], lane_starts, 1, work.shares, seen
        )
        row, out = seen[source - head * d_head], work.attn_out[at, cuts[i, 3]]
        for lane in range(out.shape[0]):
            out[lane] -= w * row[lane]


@jit_exact
def _norm_in(
    net: Network, s: Sizes, half: int, at: int, kept: int, positions: Array, out: Array, work: Work
) -> None:
    """The normed stream with its positional channels, after AbsTopK: a half block's act_in."""
    rms_norm(work.stream[at], net.gains[half], s.norm_eps, work.inverse[at], out)
    for channel in range(s.d_in - s.d_model):
        for lane in range(out.shape[1]):
            out[s.d_model + channel, lane] = net.positions[half, positions[lane], channel]
    keep_largest(out, kept, work.selection)


@jit_exact
def _add(
    work: Work,
    delta: Array,
    kept: int,
    gates: Array,
    ablated: Array,
    first: int,
    at: int,
    to: Array,
) -> None:
    """What a half block writes: `to` = stream[at] + gated AbsTopK of `delta`."""
    d = delta.shape[0]
    keep_largest(delta, kept, work.selection)
    gated = work.gated[:d]
    gate(delta, gates[first : first + d], ablated[first : first + d], gated)
    before = work.stream[at]
    for channel in range(d):
        for lane in range(delta.shape[1]):
            to[channel, lane] = before[channel, lane] + gated[channel, lane]

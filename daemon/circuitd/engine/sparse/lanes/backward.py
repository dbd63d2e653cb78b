"""The gated network's backward pass on one block of lanes: the gradient by every gate, layer by
layer from the last. Read beside `network.forward_block`, which it follows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from circuitd.engine.sparse.copying import copy_row, copy_rows, fill_rows
from circuitd.engine.sparse.functions import exp
from circuitd.engine.sparse.jit import jit_exact
from circuitd.engine.sparse.lanes.attention import attend_backward
from circuitd.engine.sparse.lanes.kernels import (
    gate,
    gate_backward,
    multiply_backward,
    multiply_elements,
    rms_norm_backward,
)
from circuitd.engine.sparse.lanes.layout import Network, Sizes
from circuitd.engine.sparse.lanes.node_places import nodes_per_layer, post_act_at, qkv_at
from circuitd.engine.sparse.lanes.work import Work

Array = np.ndarray[Any, Any]

_F: Final = np.float32


@jit_exact
def backward_block(
    net: Network,
    s: Sizes,
    gates: Array,
    ablated: Array,
    starts: Array,
    lane_starts: Array,
    answers: Array,
    differences: Array,
    work: Work,
    grad_gates: Array,
    first_layer: int,
    last_layer: int,
) -> None:
    """Add to `grad_gates` [n_nodes] what the layers from `last_layer` - 1 down to `first_layer` say
    of the gradient of the block's summed two-token losses.

    Needs the `work` of a forward pass with `keeps_layers` on the same block. The layers may be done
    some at a time, the last first: in between the gradient by the stream is in `work.grad_stream`.
    """
    if last_layer == s.n_layer:
        _begin(net, s, gates, ablated, starts, answers, differences, work, grad_gates)
    for back in range(last_layer - first_layer):
        _layer(net, s, gates, ablated, lane_starts, work, grad_gates, last_layer - 1 - back)


@jit_exact
def _begin(
    net: Network,
    s: Sizes,
    gates: Array,
    ablated: Array,
    starts: Array,
    answers: Array,
    differences: Array,
    work: Work,
    grad_gates: Array,
) -> None:
    """The gradient by the stream after the last layer, from the loss."""
    d, end = s.d_model, 2 * s.n_layer
    final = s.n_layer * nodes_per_layer(s)
    by_norm = work.grad[:d]
    fill_rows(by_norm, _F(0))
    for sequence in range(len(starts) - 1):
        last = starts[sequence + 1] - 1
        right, wrong = answers[sequence, 0], answers[sequence, 1]
        # d softplus(-difference): minus the probability of the wrong answer.
        weight = _F(-1) / (_F(1) + exp(min(differences[sequence], _F(80))))
        for channel in range(d):
            by_norm[channel, last] = weight * (
                net.lm_head[right, channel] - net.lm_head[wrong, channel]
            )
    x = work.gated[:d]
    gate(work.stream[end], gates[final:], ablated[final:], x)
    grad_x = work.grad_stream
    fill_rows(grad_x, _F(0))
    rms_norm_backward(x, net.gains[end], work.inverse[end], by_norm, work.scratch, grad_x)
    gate_backward(
        work.stream[end], gates[final:], ablated[final:], grad_x, False, grad_gates[final:]
    )


@jit_exact
def _layer(
    net: Network,
    s: Sizes,
    gates: Array,
    ablated: Array,
    lane_starts: Array,
    work: Work,
    grad_gates: Array,
    i: int,
) -> None:
    """Back through layer `i`: `work.grad_stream` becomes the gradient by the stream before it."""
    d, d_attn, width = s.d_model, s.d_attn, nodes_per_layer(s)
    grad_x = work.grad_stream
    node = i * width + post_act_at(s) + s.d_mlp
    g = gates[node : node + d]
    grad = work.grad[:d]
    copy_rows(grad_x, grad)
    gate_backward(
        work.mlp_out[i], g, ablated[node : node + d], grad, s.mlp_out < d,
        grad_gates[node : node + d],
    )  # fmt: skip
    by_post = work.grad_next[: s.d_mlp]
    multiply_backward(net, i, 3, grad, g, by_post)
    node -= s.d_mlp
    g = gates[node : node + s.d_mlp]
    gate_backward(
        work.post_act[i], g, ablated[node : node + s.d_mlp], by_post,
        s.mlp_neuron < s.d_mlp, grad_gates[node : node + s.d_mlp],
    )  # fmt: skip
    multiply_elements(by_post, work.slope[i])
    by_in = work.grad[: s.d_in]
    multiply_backward(net, i, 2, by_post, g, by_in)
    node -= s.d_in
    gate_backward(
        work.mlp_in[i], gates[node : node + s.d_in], ablated[node : node + s.d_in], by_in,
        s.mlp_in < s.d_in, grad_gates[node : node + s.d_in],
    )  # fmt: skip
    rms_norm_backward(
        work.stream[2 * i + 1], net.gains[2 * i + 1], work.inverse[2 * i + 1], by_in,
        work.scratch, grad_x,
    )  # fmt: skip

    node -= d
    g = gates[node : node + d]
    grad = work.grad[:d]
    copy_rows(grad_x, grad)
    gate_backward(
        work.attn_out[i], g, ablated[node : node + d], grad, s.attn_out < d,
        grad_gates[node : node + d],
    )  # fmt: skip
    by_y = work.y
    multiply_backward(net, i, 1, grad, g, by_y)
    node = i * width
    for part in range(3):
        first = node + qkv_at(s, part)
        rows = slice(part * d_attn, (part + 1) * d_attn)
        gate(
            work.qkv[i, rows], gates[first : first + d_attn],
            ablated[first : first + d_attn], work.gated_qkv[rows],
        )  # fmt: skip
    q, k = work.gated_qkv[:d_attn], work.gated_qkv[d_attn : 2 * d_attn]
    v, by_qkv = work.gated_qkv[2 * d_attn :], work.grad_qkv
    attend_backward(
        q, k, v, net.sinks[i], lane_starts, s.n_head, work.shares, work.by_scores, work.turned,
        by_y, by_qkv[:d_attn], by_qkv[d_attn : 2 * d_attn], by_qkv[2 * d_attn :],
    )  # fmt: skip
    for part in range(3):
        kept = s.attn_q if part == 0 else (s.attn_k if part == 1 else s.attn_v)
        first = node + qkv_at(s, part)
        rows = slice(part * d_attn, (part + 1) * d_attn)
        g = gates[first : first + d_attn]
        copy_row(g, work.qkv_gates[rows])
        gate_backward(
            work.qkv[i, rows], g, ablated[first : first + d_attn], by_qkv[rows],
            kept < d_attn, grad_gates[first : first + d_attn],
        )  # fmt: skip
    by_in = work.grad[: s.d_in]
    multiply_backward(net, i, 0, by_qkv, work.qkv_gates, by_in)
    gate_backward(
        work.attn_in[i], gates[node : node + s.d_in], ablated[node : node + s.d_in], by_in,
        s.attn_in < s.d_in, grad_gates[node : node + s.d_in],
    )  # fmt: skip
    rms_norm_backward(
        work.stream[2 * i], net.gains[2 * i], work.inverse[2 * i], by_in, work.scratch, grad_x
    )

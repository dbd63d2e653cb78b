"""The room that one block of lanes is computed in: every activation the gated network needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.attention import n_keys_of
from circuitd.engine.sparse.lanes.layout import Sizes
from circuitd.engine.sparse.select import Selection, make_selection
from circuitd.engine.sparse.vectors import LANES

Array = np.ndarray[Any, Any]


class Work(NamedTuple):
    """The activations of one block; the first axis is the layer (1 where nothing is kept for a
    backward pass).
    """

    stream: Array  # [2 L + 1, d, lanes]: before each half block, and at the end
    inverse: Array  # [2 L + 1, lanes]: 1 / rms of each norm
    attn_in: Array  # [L, d_in, lanes]
    qkv: Array  # [L, 3 * d_attn, lanes]
    attn_out: Array  # [L, d, lanes]
    mlp_in: Array  # [L, d_in, lanes]
    post_act: Array  # [L, d_mlp, lanes]
    slope: Array  # [L, d_mlp, lanes]
    mlp_out: Array  # [L, d, lanes]
    shares: Array  # [keys of a tile, LANES]: what its queries give them
    by_scores: Array  # likewise: gradients
    turned: Array  # [2 * LANES, LANES]
    y: Array  # [d_attn, lanes]
    gated: Array  # [widest, lanes]
    gated_qkv: Array  # [3 * d_attn, lanes]
    grad: Array  # [widest, lanes]
    grad_next: Array  # [widest, lanes]
    grad_qkv: Array  # [3 * d_attn, lanes]
    grad_stream: Array  # [d, lanes]
    scratch: Array  # [lanes]
    selection: Selection
    ones: Array  # [widest]
    qkv_gates: Array  # [3 * d_attn]: in the order of c_attn's rows


def make_work(sizes: Sizes, n_lanes: int, longest: int, keeps_layers: bool) -> Work:
    """Room for one block of `n_lanes` whose longest sequence has `longest` tokens."""
    layers = sizes.n_layer if keeps_layers else 1
    halves, n_keys = 2 * layers + 1, n_keys_of(longest, n_lanes)
    d, d_in, d_attn, d_mlp = sizes.d_model, sizes.d_in, sizes.d_attn, sizes.d_mlp
    widest = max(d_in, 3 * d_attn, d_mlp)

    return Work(
        stream=room(halves, d, n_lanes),
        inverse=room(halves, n_lanes),
        attn_in=room(layers, d_in, n_lanes),
        qkv=room(layers, 3 * d_attn, n_lanes),
        attn_out=room(layers, d, n_lanes),
        mlp_in=room(layers, d_in, n_lanes),
        post_act=room(layers, d_mlp, n_lanes),
        slope=room(layers, d_mlp, n_lanes),
        mlp_out=room(layers, d, n_lanes),
        shares=room(n_keys, LANES),
        by_scores=room(n_keys if keeps_layers else 0, LANES),
        turned=room(2 * LANES if keeps_layers else 0, LANES),
        y=room(d_attn, n_lanes),
        gated=room(widest, n_lanes),
        gated_qkv=room(3 * d_attn, n_lanes),
        grad=room(widest if keeps_layers else 0, n_lanes),
        grad_next=room(widest if keeps_layers else 0, n_lanes),
        grad_qkv=room(3 * d_attn if keeps_layers else 0, n_lanes),
        grad_stream=room(d, n_lanes),
        scratch=room(n_lanes),
        selection=make_selection(widest),
        ones=np.ones(widest, np.float32),
        qkv_gates=room(3 * d_attn),
    )

"""Where the nodes of a layer begin, for the kernels: in the order of `circuits.nodes`, per layer
act_in, k, q, v, resid_delta of attention, then act_in, post_act, resid_delta of the MLP.
"""

from __future__ import annotations

from circuitd.engine.sparse.jit import jit_exact
from circuitd.engine.sparse.lanes.layout import Sizes


@jit_exact
def nodes_per_layer(s: Sizes) -> int:
    """How many nodes a layer has."""
    return 2 * s.d_in + 3 * s.d_attn + 2 * s.d_model + s.d_mlp


@jit_exact
def qkv_at(s: Sizes, part: int) -> int:
    """Of q (0), k (1), v (2): the nodes are in order k, q, v, the rows of c_attn q, k, v."""
    return s.d_in + (s.d_attn if part == 0 else (0 if part == 1 else 2 * s.d_attn))


@jit_exact
def attn_out_at(s: Sizes) -> int:
    """Of attention's resid_delta."""
    return s.d_in + 3 * s.d_attn


@jit_exact
def mlp_in_at(s: Sizes) -> int:
    """Of the MLP's act_in."""
    return s.d_in + 3 * s.d_attn + s.d_model


@jit_exact
def post_act_at(s: Sizes) -> int:
    """Of the MLP's post_act."""
    return 2 * s.d_in + 3 * s.d_attn + s.d_model

"""A network laid out for the sparse kernels: only nonzero block weights, by column and by row.

Built once from `Weights`. The kernels cover the networks that weight-sparse training makes:
RMSNorm, GELU or ReLU, any AbsTopK inside the blocks, sinks or none, added or concatenated
positions, bigram table or none. `why_not` names what they do not cover.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from circuitd.engine.config import GPTConfig
from circuitd.engine.nonzeros import Nonzeros
from circuitd.engine.weights import Weights

Array = np.ndarray[Any, Any]


class Sizes(NamedTuple):
    """Dimensions, and how many entries AbsTopK keeps at each place (the width where it does not
    act).
    """

    n_layer: int
    n_head: int
    d_model: int
    d_in: int
    d_attn: int
    d_mlp: int
    is_gelu: bool
    norm_eps: float
    attn_in: int
    attn_q: int
    attn_k: int
    attn_v: int
    attn_out: int
    mlp_in: int
    mlp_neuron: int
    mlp_out: int


class Network(NamedTuple):
    """All numbers of a network as flat arrays; L layers, matrices in order c_attn, attn_proj,
    c_fc, mlp_proj.

    Column j of matrix m of layer i is `targets` and `values` from
    `columns[column_start[i, m] + j]` to the next; row r likewise in `sources` and `row_values`.
    """

    wte: Array  # [V, d]
    wpe: Array  # [T, d], or [0, 0] when positions are concatenated
    positions: Array  # [2 L, T, d_pos], after their norm; d_pos may be 0
    gains: Array  # [2 L + 1, d]
    attn_bias: Array  # [L, 3 * d_attn]
    attn_proj_bias: Array  # [L, d]
    fc_bias: Array  # [L, d_mlp]
    mlp_proj_bias: Array  # [L, d]
    sinks: Array  # [L, H], or [L, 0]
    column_start: Array  # [L, 4]
    columns: Array
    targets: Array
    values: Array
    row_start: Array  # [L, 4]
    rows: Array
    sources: Array
    row_values: Array
    lm_head: Array  # [V, d]
    logits_bias: Array  # [V]
    bigrams: Array  # [V, V], or [0, 0]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; embeddings are views of the model's own."""
        return sum(part.nbytes for part in self)


def why_not(weights: Weights) -> str | None:
    """What keeps this network from the sparse kernels; None when they can run it."""
    config = weights.config
    reasons = (
        (weights.device.type != "cpu", f"it is on {weights.device}, the kernels are for the CPU"),
        (weights.dtype != torch.float32, f"it is in {weights.dtype}, the kernels take float32"),
        (not config.rms_norm, "it uses LayerNorm"),
        (config.residual_activation_type != "identity", "its residual stream has an activation"),
        (
            config.kept("resid_post_attn") is not None or config.kept("resid_post_mlp") is not None,
            "AbsTopK acts on its residual stream",
        ),
    )
    return next((reason for applies, reason in reasons if applies), None)


def sizes_of(config: GPTConfig) -> Sizes:
    """The dimensions of `config`."""
    kept = config.n_kept
    d, d_in, d_attn = config.d_model, config.d_in, config.d_attn
    return Sizes(
        config.n_layer, config.n_head, d, d_in, d_attn, config.d_mlp,
        config.activation_type == "gelu", float(torch.finfo(torch.float32).eps),
        kept("attn_in"), kept("attn_q"), kept("attn_k"),
        kept("attn_v"), kept("attn_out"), kept("mlp_in"),
        kept("mlp_neuron"), kept("mlp_out"),
    )  # fmt: skip


def lay_out(weights: Weights) -> Network:
    """The arrays of `weights`. Raises ValueError where `why_not` has a reason."""
    if (reason := why_not(weights)) is not None:
        raise ValueError(f"the sparse kernels cannot run this network: {reason}")
    config, layers = weights.config, weights.layers
    by_column, by_row = _Compressed(), _Compressed()
    for layer in layers:
        for matrix in layer.matrices:
            nonzeros = matrix.nonzeros
            by_column.add(nonzeros.transposed())
            by_row.add(nonzeros)
    n, d_pos = config.n_layer, config.d_in - config.d_model
    positions = np.zeros((2 * n, config.block_size, d_pos), np.float32)
    for i, layer in enumerate(layers):
        for at, normed in ((2 * i, layer.attn_pos), (2 * i + 1, layer.mlp_pos)):
            if normed is not None:
                positions[at] = normed.detach().numpy()
    norms = [norm for layer in layers for norm in (layer.ln_1, layer.ln_2)] + [weights.ln_f]
    sinks = [_vector(layer.sink_logit, 0) for layer in layers]
    none = np.zeros((0, 0), np.float32)
    return Network(
        wte=weights.wte.numpy(),
        wpe=none if weights.wpe is None else weights.wpe.numpy(),
        positions=positions,
        gains=np.stack([norm.gain.numpy() for norm in norms]),
        attn_bias=np.stack([_vector(layer.c_attn_bias, 3 * config.d_attn) for layer in layers]),
        attn_proj_bias=np.stack(
            [_vector(layer.attn_proj_bias, config.d_model) for layer in layers]
        ),
        fc_bias=np.stack([_vector(layer.c_fc_bias, config.d_mlp) for layer in layers]),
        mlp_proj_bias=np.stack([_vector(layer.mlp_proj_bias, config.d_model) for layer in layers]),
        sinks=np.stack(sinks),
        column_start=by_column.starts(n),
        columns=by_column.pointers(),
        targets=np.concatenate(by_column.indices),
        values=np.concatenate(by_column.values),
        row_start=by_row.starts(n),
        rows=by_row.pointers(),
        sources=np.concatenate(by_row.indices),
        row_values=np.concatenate(by_row.values),
        lm_head=weights.lm_head.numpy(),
        logits_bias=_vector(weights.final_logits_bias, config.vocab_size),
        bigrams=none if weights.bigram_table is None else weights.bigram_table.numpy(),
    )


class _Compressed:
    """Many matrices in compressed rows, one after another in the same arrays."""

    def __init__(self) -> None:
        self.indices: list[Array] = []
        self.values: list[Array] = []
        self._pointers: list[Array] = []
        self._starts: list[int] = []
        self._n_values = 0
        self._n_pointers = 0

    def add(self, matrix: Nonzeros) -> None:
        self._starts.append(self._n_pointers)
        self._pointers.append(matrix.starts.astype(np.int64) + self._n_values)
        self._n_pointers += len(matrix.starts)
        self.indices.append(matrix.columns.astype(np.int32))
        self.values.append(matrix.values)
        self._n_values += len(matrix.values)

    def pointers(self) -> Array:
        return np.concatenate(self._pointers)

    def starts(self, n_layer: int) -> Array:
        return np.array(self._starts, np.int64).reshape(n_layer, 4)


def _vector(values: torch.Tensor | None, width: int) -> Array:
    return np.zeros(width, np.float32) if values is None else values.numpy()

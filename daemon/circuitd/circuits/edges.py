"""Edges: nonzero weights between retained nodes, counted in exactly six matrices per layer.

act_in->q, act_in->k, act_in->v, v->attn.resid_delta, act_in->post_act, post_act->mlp.resid_delta.
Embeddings, unembedding, biases, the pairing of q and k, and the identity path of the residual
stream are not edges (FACTS 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.nodes import node_space
from circuitd.engine.cuts import CUTTABLE
from circuitd.engine.weights import Weights


@dataclass(frozen=True, eq=False)
class EdgeMatrix:
    """One counted matrix: `weight` [target width, source width], a view of the model's tensor."""

    layer: int
    source: str
    target: str
    weight: Tensor


@dataclass(frozen=True)
class Edges:
    """Edges of one matrix, sorted by target then source: channels [n] and weights [n]."""

    source: str
    target: str
    source_channels: np.ndarray
    target_channels: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)


def edge_matrices(weights: Weights) -> Iterator[EdgeMatrix]:
    """The counted matrices in forward order."""
    width = weights.config.d_attn
    for i, layer in enumerate(weights.layers):
        q, k, v = layer.c_attn.split(width, dim=0)
        tensors = (q, k, v, layer.attn_proj, layer.c_fc, layer.mlp_proj)
        for (source, target), weight in zip(CUTTABLE, tensors, strict=True):
            yield EdgeMatrix(i, f"{i}.{source}", f"{i}.{target}", weight)


def edges_between(weights: Weights, kept: np.ndarray) -> list[Edges]:
    """The edges among the nodes `kept` (BOOL [n_nodes]), matrix by matrix; empty ones left out."""
    space = node_space(weights.config)
    found: list[Edges] = []
    for matrix in edge_matrices(weights):
        source = np.flatnonzero(kept[space.span(matrix.source)])
        target = np.flatnonzero(kept[space.span(matrix.target)])
        if not source.size or not target.size:
            continue
        block = matrix.weight[torch.from_numpy(target)][:, torch.from_numpy(source)]
        values = block.float().cpu().numpy()
        at_target, at_source = np.nonzero(values)
        if at_target.size:
            found.append(
                Edges(
                    matrix.source,
                    matrix.target,
                    source[at_source],
                    target[at_target],
                    values[at_target, at_source],
                )
            )
    return found

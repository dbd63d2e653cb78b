"""Edges: nonzero weights between retained nodes, counted in exactly six matrices per layer.

act_in->q, act_in->k, act_in->v, v->attn.resid_delta, act_in->post_act, post_act->mlp.resid_delta.
Embeddings, unembedding, biases, the pairing of q and k, and the identity path of the residual
stream are not edges (FACTS 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from circuitd.circuits.nodes import node_space
from circuitd.engine.cuts import CUTTABLE
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.weights import Weights


@dataclass(frozen=True, eq=False)
class EdgeMatrix:
    """One counted matrix: `rows` of one of the model's weights, which map `source` to `target`."""

    layer: int
    source: str
    target: str
    weight: WeightMatrix
    rows: range


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
        c_attn, *others = layer.matrices
        parts = [(c_attn, range(n * width, (n + 1) * width)) for n in range(3)]
        parts += [(weight, range(weight.shape[0])) for weight in others]
        for (source, target), (weight, rows) in zip(CUTTABLE, parts, strict=True):
            yield EdgeMatrix(i, f"{i}.{source}", f"{i}.{target}", weight, rows)


def edges_between(weights: Weights, kept: np.ndarray) -> list[Edges]:
    """The edges among the nodes `kept` (BOOL [n_nodes]), matrix by matrix; empty ones left out."""
    space = node_space(weights.config)
    found: list[Edges] = []
    for matrix in edge_matrices(weights):
        source = np.flatnonzero(kept[space.span(matrix.source)])
        target = np.flatnonzero(kept[space.span(matrix.target)])
        if not source.size or not target.size:
            continue
        values = matrix.weight.block(matrix.rows.start + target, source)
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

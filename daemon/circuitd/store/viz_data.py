"""`viz_data.pt`, the published file of one circuit: what it holds, and writing it.

The file stores the losses `loss`, `interv_loss` and `ch_interv_losses` as sums over the two sides
of a pair, and `layer_interv_losses` as means per side. Here every loss is the mean per side: the
first three are halved when read and doubled when written, once, and never in place.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """One weight matrix between retained nodes: `values` float32 [sources, targets]."""

    source: str
    target: str
    source_channels: tuple[int, ...]
    target_channels: tuple[int, ...]
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Tokens [n], a node's values there [n], and which position of them was sampled."""

    tokens: np.ndarray
    activations: np.ndarray
    position: int


#: (fraction, bottom, top) of one node.
Bands = tuple[tuple[float, tuple[Excerpt, ...], tuple[Excerpt, ...]], ...]


@dataclass(frozen=True, eq=False)
class VizData:
    """The file's content; losses in nats, mean per side.

    `node_losses` are the circuit's loss with that retained node ablated as well, in the order of
    `nodes`; `layer_losses` likewise by "<layer>.attn" or "<layer>.mlp". `edge_deltas` and
    `edge_weights` leave the bias rows out. `curve` is (iteration, loss).
    """

    nodes: Mapping[str, tuple[int, ...]]
    model_loss: float
    loss: float
    node_losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    layer_losses: Mapping[str, float] = field(default_factory=dict)
    edge_deltas: tuple[Pairs, ...] = ()
    edge_weights: tuple[Pairs, ...] = ()
    samples: Mapping[str, Mapping[int, Bands]] = field(default_factory=dict)
    task_tokens: np.ndarray | None = None
    task_activations: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    curve: tuple[tuple[int, float], ...] = ()
    n_nodes_in_model: int | None = None
    prune_config: Mapping[str, Any] = field(default_factory=dict)


def write_viz_data(data: VizData) -> bytes:
    """The file in the published layout."""
    buffer = io.BytesIO()
    torch.save(
        {
            "circuit_data": {
                site: torch.tensor(channels, dtype=torch.int64)
                for site, channels in data.nodes.items()
            },
            "samples": {
                site: {channel: _bands_out(bands) for channel, bands in nodes.items()}
                for site, nodes in data.samples.items()
            },
            "importances": {
                "loss": 2 * data.model_loss,
                "interv_loss": 2 * data.loss,
                "ch_interv_losses": {
                    site: [2 * loss for loss in losses] for site, losses in data.node_losses.items()
                },
                "layer_interv_losses": dict(data.layer_losses),
                "pair_data": [_pairs_out(pairs) for pairs in data.edge_deltas],
                "pair_data_connections": [_pairs_out(pairs) for pairs in data.edge_weights],
                "task_samples": _task_samples_out(data),
                "beeg_model_config": dict(data.config or {}),
            },
            "all_loss": [(iteration, loss) for iteration, loss in data.curve],
            "num_total_nodes": data.n_nodes_in_model,
            "prune_config": dict(data.prune_config),
        },
        buffer,
    )
    return buffer.getvalue()


def _bands_out(bands: Bands) -> dict[float, tuple[list[Any], list[Any]]]:
    def out(excerpts: Iterable[Excerpt]) -> list[Any]:
        return [
            (torch.from_numpy(e.tokens), torch.from_numpy(e.activations), e.position)
            for e in excerpts
        ]

    return {fraction: (out(bottom), out(top)) for fraction, bottom, top in bands}


def _pairs_out(pairs: Pairs) -> list[Any]:
    return [
        torch.from_numpy(pairs.values),
        list(pairs.source_channels),
        list(pairs.target_channels),
        (pairs.source, pairs.target),
    ]


def _task_samples_out(data: VizData) -> tuple[Tensor, dict[str, dict[int, Tensor]]]:
    tokens = np.zeros((0, 0), np.int64) if data.task_tokens is None else data.task_tokens
    activations = {
        site: {channel: torch.from_numpy(values) for channel, values in nodes.items()}
        for site, nodes in data.task_activations.items()
    }
    return torch.from_numpy(tokens), activations

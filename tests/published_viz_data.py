"""A `viz_data.pt` in the published layout, written by hand from FACTS 5 and not by our exporter."""

from __future__ import annotations

import io
from typing import Any

import torch

#: Of the tiny model of `worker_desk`: 2 layers, d_model 32, 4 heads of 8, d_mlp 64.
CIRCUIT = {
    "0.mlp.act_in": [3, 7],
    "0.mlp.post_act": [40, 5],
    "0.mlp.resid_delta": [11],
    "1.attn.act_in": [11],
    "1.attn.q": [9],
    "1.attn.k": [],
    "1.attn.v": [8],
    "1.attn.resid_delta": [2],
    "final_resid": [2],
}


def published(config: dict[str, Any], circuit: dict[str, list[int]] | None = None) -> dict:
    """The dictionary; losses are sums over two sides where the published ones are."""
    nodes = CIRCUIT if circuit is None else circuit
    n_positions = 6
    tokens = torch.tensor([[5, 6, 7, 8, 0, 0], [5, 6, 9, 8, 1, 0]])
    excerpt = (torch.tensor([1, 2, 3]), torch.tensor([0.5, -1.0, 0.25]), 1)
    return {
        "circuit_data": {site: torch.tensor(c, dtype=torch.int64) for site, c in nodes.items()},
        "samples": {
            site: {
                (channel if i % 2 else torch.tensor(channel)): {
                    fraction: ([excerpt] * 5, [excerpt] * 5) for fraction in (0.001, 0.01, 0.1, 0.5)
                }
                for i, channel in enumerate(channels)
            }
            for site, channels in nodes.items()
        },
        "importances": {
            "loss": 0.2,
            "interv_loss": 0.3,
            "ch_interv_losses": {
                site: [0.3 + 0.1 * (i + 1) for i in range(len(channels))]
                for site, channels in nodes.items()
            },
            "layer_interv_losses": {"0.mlp": 0.55, "1.attn": 0.25},
            "pair_data": [
                [
                    torch.tensor([[0.1, 0.2], [0.3, 0.4], [9.0, 9.0]]),
                    [3, torch.tensor(7), "bias"],
                    [torch.tensor(40), 5],
                    ("0.mlp.act_in", "0.mlp.post_act"),
                ],
            ],
            "pair_data_connections": [
                [torch.zeros(2, 2), [3, 7], [40, 5], ("0.mlp.act_in", "0.mlp.post_act")],
            ],
            "task_samples": (
                tokens,
                {
                    site: {channel: torch.zeros(2, n_positions) for channel in channels}
                    for site, channels in nodes.items()
                },
            ),
            "beeg_model_config": config,
        },
        "all_loss": [(0, 0.7), (1, 0.6), (2, torch.tensor(0.5))],
        "num_total_nodes": 1234,
        "prune_config": {"k_coef": 1e-4, "lr": 3e-3},
    }


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()

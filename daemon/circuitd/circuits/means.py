"""Pretraining means: the mean of each node over pretraining text, from the forward that is masked.

A mean is one value per channel, shared by all positions and prompts (FACTS 1). It is taken after
the activation sparsity of its site, as that is what a mask replaces.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import node_sites
from circuitd.engine.weights import Weights


def pretraining_means(weights: Weights, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Mean [width] float32 of every node site over `batches` of tokens [B, T], summed in float64.

    Every position of every batch counts once. Raises ValueError when there are none.
    """
    sites = [site.name for site in node_sites(weights.config)]
    plan = Plan(record=tuple(Record(site) for site in sites), logits="none")
    sums: dict[str, Tensor] = {}
    count = 0
    for tokens in batches:
        run = forward(weights, tokens, plan)
        count += tokens.numel()
        for site in sites:
            total = run.records[site].double().sum((0, 1))
            sums[site] = sums[site] + total if site in sums else total
    if not count:
        raise ValueError("means need at least one batch of tokens")
    return {site: (total / count).to(torch.float32) for site, total in sums.items()}

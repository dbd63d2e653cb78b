"""How the weights move: schedules, normalised gradients, and the projection to sparsity.

After every step of AdamW each weight matrix keeps only its largest entries. The fraction that is
kept falls geometrically from 1 to its final value over the first half of training; because few
weights must then do the work of many, the learning rate rises with 1 / sqrt(fraction).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ANNEAL_SHARE = 0.5
WARM_UP_SHARE = 0.01
MAX_LR_GAIN = 3.0
MIN_PER_UNIT = 4


@dataclass(frozen=True)
class Schedule:
    """Learning rate and kept fractions at a progress from 0 (start) to 1 (end).

    `block_fraction` and `embed_fraction` are the final shares of entries kept in a block matrix
    and in a row of an embedding; 1.0 trains a dense network.
    """

    peak_lr: float
    block_fraction: float
    embed_fraction: float

    def block_fraction_at(self, progress: float) -> float:
        """Share of a block matrix's entries that is kept."""
        return self.block_fraction ** min(1.0, progress / ANNEAL_SHARE)

    def embed_fraction_at(self, progress: float) -> float:
        """Share of an embedding row's entries that is kept."""
        return self.embed_fraction ** min(1.0, progress / ANNEAL_SHARE)

    def lr_at(self, progress: float) -> float:
        """Warm-up, linear decay to zero, times 1 / sqrt(fraction) up to `MAX_LR_GAIN`."""
        warm_up = min(1.0, progress / WARM_UP_SHARE)
        gain = min(MAX_LR_GAIN, self.block_fraction_at(progress) ** -0.5)
        return self.peak_lr * warm_up * (1.0 - progress) * gain


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: matrices decay, vectors (biases, norms, sinks) do not."""
    matrices = [p for p in network.parameters() if p.ndim == 2]
    vectors = [p for p in network.parameters() if p.ndim != 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


@torch.no_grad()
def normalise_gradients(network: nn.Module) -> float:
    """Divide all gradients by their common root mean square and return it."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    total = sum(float(g.square().sum()) for g in gradients)
    rms = (total / sum(g.numel() for g in gradients)) ** 0.5
    for gradient in gradients:
        gradient.div_(rms + 1e-12)
    return rms


@torch.no_grad()
def project(network: nn.Module, block_fraction: float, embed_fraction: float) -> None:
    """Set all but the largest entries of every weight matrix to zero.

    Block matrices keep `block_fraction` of their entries, chosen over the whole matrix, and at
    least `MIN_PER_UNIT` for every neuron or attention channel. Embeddings and the unembedding
    keep `embed_fraction` of every token's row. Vectors stay as they are.
    """
    for name, weight in matrices(network):
        if is_block(name):
            if block_fraction < 1.0:
                weight.mul_(kept_of_matrix(weight, block_fraction, unit_axis(name)))
        elif embed_fraction < 1.0:
            k = max(1, round(embed_fraction * weight.shape[1]))
            kept = torch.zeros_like(weight, dtype=torch.bool)
            weight.mul_(kept.scatter_(1, weight.abs().topk(k, dim=1).indices, True))


def kept_of_matrix(weight: Tensor, fraction: float, axis: int) -> Tensor:
    """Mask of the largest `fraction` of `weight`, with at least four along `axis` per unit.

    The minimum takes its share from the total, so the matrix never keeps more than its fraction
    unless the minimum alone asks for more.
    """
    magnitude = weight.abs()
    guaranteed = magnitude.topk(min(MIN_PER_UNIT, weight.shape[axis]), dim=axis).indices
    kept = torch.zeros_like(weight, dtype=torch.bool).scatter_(axis, guaranteed, True)
    n_free = int(fraction * weight.numel()) - int(kept.sum())
    if n_free > 0:
        rest = magnitude.masked_fill(kept, 0.0).flatten()
        threshold = rest.kthvalue(rest.numel() - n_free + 1).values
        kept |= (rest >= threshold).view_as(kept)
    return kept


def matrices(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight matrix with its published name."""
    return ((name, p) for name, p in network.named_parameters() if p.ndim == 2)


def is_block(name: str) -> bool:
    """Whether the matrix belongs to a block, rather than to an embedding."""
    return name.startswith("transformer.h.")


def unit_axis(name: str) -> int:
    """The axis along which one neuron's or attention channel's weights lie.

    Rows of `c_attn` and `c_fc` are the weights into a unit, columns of both `c_proj` those out.
    """
    return 0 if name.endswith("c_proj.weight") else 1

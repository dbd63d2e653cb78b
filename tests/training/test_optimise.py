"""The projection keeps what the paper says it keeps, and the schedule ends where it should."""

from __future__ import annotations

import pytest
import torch
from training.optimise import Schedule, kept_of_matrix, normalise_gradients, project


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("fraction", [0.9, 0.3, 0.05])
def test_a_matrix_keeps_its_fraction_and_every_unit_its_minimum(axis: int, fraction: float) -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    weight[3] *= 1e-3  # a unit that the largest entries alone would starve
    weight[:, 5] *= 1e-3
    kept = kept_of_matrix(weight, fraction, axis)
    assert int(kept.sum()) == max(int(fraction * weight.numel()), 4 * weight.shape[1 - axis])
    assert int(kept.sum(axis).min()) >= 4


def test_what_is_kept_beyond_the_minimum_is_the_largest() -> None:
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(1))
    kept = kept_of_matrix(weight, 0.5, 1)
    guaranteed = torch.zeros_like(kept).scatter_(1, weight.abs().topk(4, dim=1).indices, True)
    assert weight.abs()[kept & ~guaranteed].min() > weight.abs()[~kept].max()


def test_projection_leaves_vectors_alone_and_thins_embeddings_by_row() -> None:
    network = torch.nn.ModuleDict({"wte": torch.nn.Embedding(10, 16), "ln": torch.nn.LayerNorm(16)})
    project(network, 0.05, 0.25)
    assert (network["wte"].weight != 0).sum(1).tolist() == [4] * 10
    assert torch.equal(network["ln"].weight, torch.ones(16))


def test_gradients_are_divided_by_their_common_root_mean_square() -> None:
    network = torch.nn.Linear(3, 2)
    network.weight.grad = torch.full((2, 3), 6.0)
    network.bias.grad = torch.zeros(2)
    rms = normalise_gradients(network)
    assert rms == pytest.approx((6 * 36 / 8) ** 0.5)
    assert float(network.weight.grad.square().sum()) == pytest.approx(8.0)


def test_the_schedule_warms_up_anneals_and_ends_at_zero() -> None:
    schedule = Schedule(peak_lr=1e-3, block_fraction=0.05, embed_fraction=0.25)
    assert schedule.lr_at(0.0) == 0.0
    assert schedule.lr_at(1.0) == 0.0
    assert schedule.block_fraction_at(0.0) == 1.0
    assert schedule.block_fraction_at(0.25) == pytest.approx(0.05**0.5)
    assert schedule.block_fraction_at(0.5) == schedule.block_fraction_at(1.0) == 0.05
    assert schedule.lr_at(0.5) == pytest.approx(0.5e-3 * 3.0)  # 1/sqrt(0.05) is capped at 3

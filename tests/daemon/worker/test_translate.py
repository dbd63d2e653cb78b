"""Declared interventions, seen through `hook` records of the very site they change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from circuit_protocol import interventions as iv
from circuit_protocol.replies import HookResult
from circuit_protocol.requests import Hook, PromptInput, Prompts, Record
from circuit_protocol.tensors import Frame, Handle, Tensor, pack
from circuitd import work
from circuitd.engine.config import GPTConfig
from circuitd.engine.sites import node_sites
from circuitd.worker.translate import circuit_masks
from worker_desk import write_model

Packed = Callable[..., Tensor]
SITE = "0.attn.v"
WIDTH = 32


def recorded(desk, prompts, *interventions, site=SITE, frames: list[Frame] | None = None):
    """What `site` holds under the interventions: [3, 7, width]."""
    request = Hook(
        id="1",
        model="m",
        input=PromptInput(prompts=prompts),
        records=(Record(site=site),),
        interventions=interventions,
        deliver="inline",
    )
    answered = desk.ask(request, frames or ())
    assert isinstance(answered.reply, HookResult)
    return desk.array(answered.reply.recorded[0].value, answered)


def refusal(desk, prompts, *interventions, frames: list[Frame] | None = None):
    request = Hook(
        id="1",
        model="m",
        input=PromptInput(prompts=prompts),
        records=(Record(site=SITE),),
        interventions=interventions,
    )
    return desk.fail(request, frames or ()).error


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_mean_is_the_models_own_or_the_one_given(desk, prompts, packed: Packed):
    own = recorded(desk, prompts, iv.Mean(site=SITE))
    np.testing.assert_allclose(own, np.broadcast_to(desk.model.means[SITE], own.shape))
    given = draw(WIDTH)
    values = recorded(desk, prompts, iv.Mean(site=SITE, values=packed(given)))
    np.testing.assert_array_equal(values, np.broadcast_to(given, values.shape))


def test_set_add_scale_and_clamp_act_on_the_selected_channels(desk, prompts, packed: Packed):
    clean = recorded(desk, prompts)
    vector = draw(2)
    changed = recorded(
        desk,
        prompts,
        iv.Set(site=SITE, channels=(0,), value=0.75),
        iv.Set(site=SITE, channels=(1, 2), value=packed(vector)),
        iv.Add(site=SITE, channels=(4, 3), vector=packed(vector)),
        iv.Scale(site=SITE, heads=(2,), factor=-2.0),
        iv.Clamp(site=SITE, channels=(30,), low=-0.1, high=0.1),
    )
    expected = clean.copy()
    expected[..., 0] = 0.75
    expected[..., [1, 2]] = vector
    expected[..., [4, 3]] += vector
    expected[..., 16:24] *= -2
    expected[..., 30] = expected[..., 30].clip(-0.1, 0.1)
    np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-6)


def test_rows_and_positions_from_the_end_select(desk, prompts):
    clean = recorded(desk, prompts)
    changed = recorded(desk, prompts, iv.Zero(site=SITE, rows=(1, 2), positions=(-1,)))
    expected = clean.copy()
    expected[1, 3] = expected[2, 5] = 0
    np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_project_works_in_the_space_of_the_selected_channels(desk, prompts, packed, keep):
    clean = recorded(desk, prompts)
    directions = draw(2, 8)
    changed = recorded(
        desk,
        prompts,
        iv.Project(site=SITE, heads=(1,), directions=packed(directions), keep=keep),
    )
    basis = np.linalg.qr(directions.T.astype(np.float64))[0].T
    within = clean[..., 8:16] @ basis.T @ basis
    expected = clean.copy()
    expected[..., 8:16] = within if keep else clean[..., 8:16] - within
    np.testing.assert_allclose(changed, expected, rtol=1e-4, atol=1e-5)


def test_patch_takes_values_from_a_frame_or_a_held_tensor(desk, prompts):
    values = draw(3, 7, WIDTH)
    frames: list[Frame] = []
    tensor = pack(values, frames)
    assert frames, "large enough for a frame of its own"
    by_frame = recorded(desk, prompts, iv.Patch(site=SITE, values=tensor), frames=frames)
    np.testing.assert_array_equal(by_frame, values)
    segment, array = desk.host.segments.create("F32", values.shape)
    array[...] = values
    desk.segments[segment.handle] = segment
    handle = Handle(handle=segment.handle, dtype="F32", shape=(3, 7, WIDTH), nbytes=values.nbytes)
    by_handle = recorded(desk, prompts, iv.Patch(site=SITE, values=handle))
    np.testing.assert_array_equal(by_handle, values)


def test_bfloat16_values_are_widened_exactly(desk, prompts):
    values = draw(WIDTH)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    tensor = pack(bits, [], dtype="BF16")
    found = recorded(desk, prompts, iv.Mean(site=SITE, values=tensor))
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_resample_takes_given_rows(desk, packed: Packed):
    prompts = Prompts(tokens=packed(np.arange(21).reshape(3, 7)))
    clean = recorded(desk, prompts)
    changed = recorded(desk, prompts, iv.Resample(site=SITE, source_rows=(2, 0, 1)))
    np.testing.assert_allclose(changed, clean[[2, 0, 1]], rtol=1e-5, atol=1e-6)


def test_resample_from_a_seed_moves_every_row_and_repeats(desk, packed: Packed):
    prompts = Prompts(tokens=packed(np.arange(42).reshape(6, 7), np.uint8))
    clean = recorded(desk, prompts)
    seen = set()
    for seed in (0, 0, 1, 2):
        changed = recorded(desk, prompts, iv.Resample(site=SITE, seed=seed))
        source = [int(np.abs(clean - row).sum((1, 2)).argmin()) for row in changed]
        assert sorted(source) == list(range(6))
        assert all(a != b for a, b in enumerate(source))
        seen.add(tuple(source))
    assert 2 <= len(seen) <= 3


def test_resample_of_ragged_rows_takes_equal_or_longer_ones(desk, packed: Packed):
    prompts = Prompts(tokens=packed(np.arange(28).reshape(4, 7), np.uint8), lengths=(7, 7, 5, 3))
    clean = recorded(desk, prompts)
    changed = recorded(desk, prompts, iv.Resample(site=SITE, seed=4))
    np.testing.assert_allclose(changed[[0, 1]], clean[[1, 0]], rtol=1e-5, atol=1e-6)
    for row, length in ((2, 5), (3, 3)):
        gaps = np.abs(clean - changed[row])[:, :length].sum((1, 2))
        assert int(gaps.argmin()) < row
    lonely = Prompts(tokens=packed(np.arange(7)[None], np.uint8))
    assert refusal(desk, lonely, iv.Resample(site=SITE)).code == "bad_intervention"


@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_keep_ablates_every_other_node_of_the_masked_sites(desk, prompts, fill):
    keep = iv.Keep(
        site="*",
        nodes=(
            iv.SiteChannels(site="0.attn.v", channels=(3, 9)),
            iv.SiteChannels(site="0.attn.act_in"),
        ),
        fill=fill,
    )
    clean = recorded(desk, prompts)
    changed = recorded(desk, prompts, keep)
    filled = desk.model.means[SITE].numpy() if fill == "mean" else np.zeros(WIDTH, np.float32)
    expected = np.broadcast_to(filled, clean.shape).copy()
    expected[..., [3, 9]] = clean[..., [3, 9]]
    np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-6)
    last = recorded(desk, prompts, keep, site="1.mlp.resid_delta")
    assert np.ptp(last, axis=(0, 1)).max() == 0, "sites the circuit does not name keep nothing"


def test_keep_masks_only_what_its_selector_names(desk, prompts):
    keep = iv.Keep(site="*.mlp.*", nodes=(), fill="zero")
    clean = recorded(desk, prompts)
    np.testing.assert_allclose(recorded(desk, prompts, keep), clean, rtol=1e-5, atol=1e-6)
    assert not recorded(desk, prompts, keep, site="0.mlp.post_act").any()


def test_freeze_without_values_holds_what_a_clean_run_has(desk, prompts):
    for site in ("1.attn.pattern", "1.mlp.norm_scale"):
        clean = recorded(desk, prompts, site=site)
        upstream = iv.Scale(site="0.mlp.resid_delta", factor=5.0)
        moved = recorded(desk, prompts, upstream, site=site)
        assert np.abs(moved - clean).max() > 1e-3
        frozen = recorded(desk, prompts, upstream, iv.Freeze(site=site), site=site)
        np.testing.assert_allclose(frozen, clean, rtol=1e-5, atol=1e-6)


def test_interventions_compose_in_their_order(desk, prompts):
    first = recorded(desk, prompts, iv.Set(site=SITE, value=1.0), iv.Scale(site=SITE, factor=3.0))
    assert (first == 3.0).all()
    second = recorded(desk, prompts, iv.Scale(site=SITE, factor=3.0), iv.Set(site=SITE, value=1.0))
    assert (second == 1.0).all()


@pytest.mark.parametrize(
    ("intervention", "code"),
    [
        (iv.Zero(site="9.mlp.post_act"), "not_found"),
        (iv.Zero(site="*.nowhere"), "not_found"),
        (iv.Zero(site=SITE, channels=(32,)), "bad_intervention"),
        (iv.Zero(site=SITE, heads=(4,)), "bad_intervention"),
        (iv.Zero(site=SITE, heads=(0,), channels=(0,)), "bad_intervention"),
        (iv.Zero(site="0.resid_in", heads=(0,)), "bad_intervention"),
        (iv.Zero(site=SITE, positions=(7,)), "bad_intervention"),
        (iv.Zero(site=SITE, positions=(-5,)), "bad_intervention"),
        (iv.Zero(site=SITE, rows=(3,)), "bad_intervention"),
        (iv.Mean(site="0.resid_in"), "bad_intervention"),
        (iv.Set(site=SITE, value=float("nan")), "bad_intervention"),
        (iv.Scale(site=SITE, factor=float("inf")), "bad_intervention"),
        (iv.Clamp(site=SITE), "bad_intervention"),
        (iv.Clamp(site=SITE, low=1.0, high=0.0), "bad_intervention"),
        (iv.Freeze(site=SITE), "bad_intervention"),
        (iv.Keep(site="0.resid_in", nodes=()), "bad_intervention"),
        (iv.Keep(site="*", nodes=(), channels=(1,)), "bad_intervention"),
        (
            iv.Keep(site="*", nodes=(iv.SiteChannels(site="0.resid_in"),)),
            "bad_intervention",
        ),
        (
            iv.Keep(site="*", nodes=(iv.SiteChannels(site=SITE, channels=(32,)),)),
            "bad_intervention",
        ),
        (
            iv.Patch(site=SITE, values=Handle(handle="t-0", dtype="F32", shape=(1,), nbytes=4)),
            "not_found",
        ),
        (
            iv.Add(site=SITE, vector=Tensor(dtype="F32", shape=(32,), frame=2)),
            "malformed_message",
        ),
        (
            iv.Add(site=SITE, vector=Tensor(dtype="I32", shape=(1,), data=b"\0" * 4)),
            "bad_shape",
        ),
        (
            iv.Project(site=SITE, directions=Tensor(dtype="F32", shape=(1, 3), data=b"\0" * 12)),
            "bad_shape",
        ),
    ],
)
def test_what_cannot_act_is_refused_with_its_reason(desk, prompts, intervention, code):
    error = refusal(desk, prompts, intervention)
    assert error.code == code, error
    assert error.blame == "caller"


def test_a_model_without_means_says_so(desk, prompts, tmp_path):
    directory = write_model(tmp_path / "models" / "bare", means=False)
    desk.key = work.ModelKey(path=str(directory), signature="1")
    notes = desk.host.models.load(desk.key).notes
    assert any("means" in note for note in notes)
    error = refusal(desk, prompts, iv.Mean(site=SITE))
    assert error.code == "not_found"
    assert "means" in error.message


def test_masks_of_a_circuit_add_up_repeated_sites():
    config = GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, d_head=2, d_model=2)
    nodes = (
        iv.SiteChannels(site="0.attn.q", channels=(0,)),
        iv.SiteChannels(site="0.attn.q", channels=(1,)),
        iv.SiteChannels(site="final_resid", channels=()),
    )
    names = [site.name for site in node_sites(config)]
    masks = circuit_masks(config, nodes, names)
    assert list(masks) == names
    assert masks["0.attn.q"].tolist() == [True, True]
    assert not torch.cat([m for n, m in masks.items() if n != "0.attn.q"]).any()

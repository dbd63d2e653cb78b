"""`hook`: records, gradients and differences against direct calls of the engine and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuit_protocol import interventions as iv
from circuit_protocol.replies import AnyReply, HookResult, Recorded
from circuit_protocol.requests import (
    GradientOf,
    Hook,
    PromptInput,
    Prompts,
    Record,
    TaskInput,
    Variant,
)
from circuit_protocol.tensors import Handle, unpack
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.plan import Gradient, LogitDifference, Plan
from circuitd.engine.plan import Record as EngineRecord
from circuitd.worker import output, slices
from devices import DEVICES

#: What handlers do, they do on every device of the machine.
pytestmark = pytest.mark.parametrize("desk", DEVICES, indirect=True)


def hook_result(reply: AnyReply) -> HookResult:
    assert isinstance(reply, HookResult)
    return reply


def hook(prompts: Prompts, *records: Record, **rest) -> Hook:
    given = PromptInput(
        prompts=prompts, answers=rest.pop("answers", None), targets=rest.pop("targets", None)
    )
    return Hook(id="1", model="m", input=given, records=records, **rest)


def activation(desk, prompts: Prompts, site: str, *interventions) -> np.ndarray:
    # The daemon puts token 0 into the padding, whatever was sent there.
    tokens = torch.from_numpy(np.where(real(prompts), unpack(prompts.tokens, ()), 0).astype(int))
    plan = Plan(
        record=(EngineRecord(site),),
        lengths=torch.tensor(prompts.lengths),
        interventions=interventions,
    )
    return gpt.forward(desk.model.weights, tokens, plan).records[site].cpu().numpy()


def real(prompts: Prompts) -> np.ndarray:
    return np.arange(7) < np.array(prompts.lengths)[:, None]


def test_a_glob_brings_every_site_in_forward_order(desk, prompts):
    reply = hook_result(desk.ask(hook(prompts, Record(site="*.mlp.*"))).reply)
    assert [r.site for r in reply.recorded] == [
        f"{layer}.mlp.{kind}"
        for layer in (0, 1)
        for kind in ("norm_scale", "act_in", "post_act", "resid_delta")
    ]
    assert reply.loss is None


@pytest.mark.parametrize("site", ["0.attn.q", "1.mlp.post_act", "final_resid", "1.attn.pattern"])
def test_values_equal_the_engines(desk, prompts, site):
    answered = desk.ask(hook(prompts, Record(site=site)))
    (record,) = hook_result(answered.reply).recorded
    np.testing.assert_allclose(
        desk.array(record.value, answered), activation(desk, prompts, site), rtol=1e-5, atol=1e-6
    )


def test_positions_count_from_each_rows_own_end_and_channels_are_cut(desk, prompts):
    record = Record(site="0.mlp.post_act", positions=(-1, 0), channels=(3, 1))
    answered = desk.ask(hook(prompts, record))
    value = desk.array(hook_result(answered.reply).recorded[0].value, answered)
    whole = activation(desk, prompts, "0.mlp.post_act")
    for row, length in enumerate(prompts.lengths):
        expected = whole[row][[length - 1, 0]][:, [3, 1]]
        np.testing.assert_allclose(value[row], expected, rtol=1e-5, atol=1e-6)


def test_reductions_leave_padding_out(desk, prompts):
    records = [Record(site="0.resid_mid", reduce=how) for how in ("mean", "max_abs", "norm")] + [
        Record(site="0.resid_mid", reduce="top_k", top_k=9)
    ]
    answered = desk.ask(hook(prompts, *records))
    recorded = hook_result(answered.reply).recorded
    mean, largest, norm, top = (desk.array(r.value, answered) for r in recorded)
    whole = activation(desk, prompts, "0.resid_mid")
    for row, length in enumerate(prompts.lengths):
        part = whole[row, :length]
        np.testing.assert_allclose(mean[row], part.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(largest[row], np.abs(part).max(0), rtol=1e-5)
        np.testing.assert_allclose(norm[row, :length], np.linalg.norm(part, axis=-1), rtol=1e-5)
    masked = np.where(real(prompts)[..., None], whole, 0.0)
    order = np.argsort(-np.abs(masked).ravel(), kind="stable")[:9]
    np.testing.assert_allclose(top, masked.ravel()[order], rtol=1e-5)
    where = desk.array(recorded[3].indices, answered)
    assert where.tolist() == np.stack(np.unravel_index(order, masked.shape), -1).tolist()


@pytest.mark.parametrize("reduce", ["none", "mean", "norm", "top_k"])
def test_slices_of_rows_equal_one_pass(desk, prompts, monkeypatch, packed, reduce):
    targets = packed(np.where(real(prompts), 3, -1), np.int16)
    request = hook(prompts, Record(site="1.attn.y", reduce=reduce, top_k=5), targets=targets)
    whole = desk.ask(request)
    monkeypatch.setattr(slices, "rows_per_step", lambda weights, n_positions: 1)
    sliced = desk.ask(request)
    a, b = hook_result(whole.reply), hook_result(sliced.reply)
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    x, y = (desk.array(r.recorded[0].value, answered) for r, answered in ((a, whole), (b, sliced)))
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_loss_and_gradient_of_a_logit_difference_are_row_averages(desk, prompts, packed):
    answers = np.array([[3, 4], [10, 11], [2000, 5]])
    request = hook(
        prompts,
        Record(site="0.resid_mid"),
        Record(site="0.resid_mid", reduce="top_k", top_k=4),
        answers=packed(answers, np.int32),
        gradient=GradientOf(of="logit_difference"),
    )
    answered = desk.ask(request)
    reply = hook_result(answered.reply)
    tokens = torch.from_numpy(unpack(prompts.tokens, ()).astype(np.int64))
    right, wrong = torch.from_numpy(answers).unbind(1)
    run = gpt.forward(
        desk.model.weights,
        tokens,
        Plan(
            lengths=torch.tensor(prompts.lengths),
            logits="last",
            gradient=Gradient(LogitDifference(right, wrong), ("0.resid_mid",)),
        ),
    )
    expected = run.grads["0.resid_mid"].cpu().numpy() / 3
    gradient = desk.array(reply.recorded[0].gradient, answered)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
    logits = run.logits.double()
    rows = torch.arange(3)
    margin = (logits[rows, right] - logits[rows, wrong]).cpu().numpy()
    assert reply.loss == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-5)
    where = desk.array(reply.recorded[1].indices, answered)
    np.testing.assert_allclose(
        desk.array(reply.recorded[1].gradient, answered), expected[tuple(where.T)], atol=1e-7
    )


def test_the_gradient_of_the_loss_matches_finite_differences(desk, prompts, packed):
    targets = packed(np.where(real(prompts), 7, -1), np.int16)
    request = hook(prompts, Record(site="final_resid"), targets=targets, gradient=GradientOf())
    answered = desk.ask(request)
    gradient = desk.array(hook_result(answered.reply).recorded[0].gradient, answered)
    losses = []
    for step in (1e-2, -1e-2):
        nudge = iv.Add(
            site="final_resid",
            channels=(6,),
            rows=(1,),
            positions=(2,),
            vector=packed([step], np.float32),
        )
        moved = hook(prompts, Record(site="final_resid"), targets=targets, interventions=(nudge,))
        losses.append(hook_result(desk.ask(moved).reply).loss)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(gradient[1, 2, 6], rel=2e-2, abs=1e-5)


def test_a_gradient_without_anything_to_differentiate_is_refused(desk, prompts):
    for of in ("loss", "two_token_loss"):
        request = hook(prompts, Record(site="final_resid"), gradient=GradientOf(of=of))
        assert desk.fail(request).error.code == "invalid_request"


def test_against_answers_first_minus_second_and_ranks_what_changed(desk, prompts):
    request = hook(
        prompts,
        Record(site="1.resid_in"),
        Record(site="1.mlp.post_act", reduce="norm"),
        interventions=(iv.Scale(site="0.mlp.post_act", factor=3.0),),
        against=Variant(interventions=(iv.Zero(site="0.attn.resid_delta"),)),
        rank=10,
    )
    answered = desk.ask(request)
    reply = hook_result(answered.reply)
    a = engine.Scale("0.mlp.post_act", 3.0)
    b = engine.Zero("0.attn.resid_delta")
    differences = {
        site: activation(desk, prompts, site, a) - activation(desk, prompts, site, b)
        for site in ("1.resid_in", "1.mlp.post_act")
    }
    np.testing.assert_allclose(
        desk.array(reply.recorded[0].value, answered),
        differences["1.resid_in"],
        rtol=1e-4,
        atol=1e-5,
    )
    norms = np.linalg.norm(differences["1.mlp.post_act"], axis=-1)
    found = desk.array(reply.recorded[1].value, answered)
    np.testing.assert_allclose(found[real(prompts)], norms[real(prompts)], rtol=1e-4)
    rms = {
        (site, channel): np.sqrt(np.square(d[real(prompts)][:, channel]).mean())
        for site, d in differences.items()
        for channel in range(d.shape[-1])
    }
    expected = sorted(rms, key=lambda node: -rms[node])[:10]
    assert [(c.node.site, c.node.channel) for c in reply.changes] == expected
    first = reply.changes[0]
    column = differences[first.node.site][..., first.node.channel]
    assert first.rms == pytest.approx(rms[expected[0]], rel=1e-4)
    assert first.mean == pytest.approx(column[real(prompts)].mean(), rel=1e-3, abs=1e-5)
    assert first.largest == pytest.approx(column[first.row, first.position], rel=1e-4)
    assert abs(first.largest) == pytest.approx(np.abs(column[real(prompts)]).max(), rel=1e-4)


def test_a_plan_against_itself_changed_nothing(desk, prompts):
    request = hook(prompts, Record(site="*.attn.q"), against=Variant())
    answered = desk.ask(request)
    reply = hook_result(answered.reply)
    assert reply.changes == ()
    assert all(not desk.array(r.value, answered).any() for r in reply.recorded)


def test_the_second_plan_may_have_prompts_of_the_same_shape_only(desk, prompts, packed):
    tokens = packed(np.full((3, 7), 9), np.int16)
    other = Prompts(tokens=tokens, lengths=prompts.lengths)
    request = hook(prompts, Record(site="0.resid_in"), against=Variant(prompts=other))
    answered = desk.ask(request)
    value = desk.array(hook_result(answered.reply).recorded[0].value, answered)
    a, b = activation(desk, prompts, "0.resid_in"), activation(desk, other, "0.resid_in")
    np.testing.assert_allclose(value[0], a[0] - b[0], rtol=1e-5, atol=1e-6)
    shorter = Prompts(tokens=tokens, lengths=(7, 7, 7))
    request = hook(prompts, Record(site="0.resid_in"), against=Variant(prompts=shorter))
    assert desk.fail(request).error.code == "bad_shape"


def test_a_task_is_hooked_at_its_two_token_loss(desk):
    request = Hook(
        id="1",
        model="m",
        input=TaskInput(task="single_double_quote", n=4, split="held_out", seed=3),
        records=(Record(site="final_resid", positions=(-1,)),),
        gradient=GradientOf(),
    )
    answered = desk.ask(request)
    reply = hook_result(answered.reply)
    assert reply.tokens.shape[0] == 8
    assert 0.0 < reply.loss < 10.0
    gradient = desk.array(reply.recorded[0].gradient, answered)
    assert gradient.shape == (8, 1, 32)
    assert np.abs(gradient).max() > 0


def test_large_records_are_held_and_small_ones_sent(desk, packed):
    prompts = Prompts(tokens=packed(np.zeros((48, 10)), np.uint8))
    request = hook(prompts, Record(site="*.mlp.post_act"), deliver="handle")
    reply = hook_result(desk.ask(request).reply)
    assert all(isinstance(r.value, Handle) for r in reply.recorded)
    request = hook(prompts, Record(site="*.mlp.post_act"))
    recorded: tuple[Recorded, ...] = hook_result(desk.ask(request).reply).recorded
    assert not any(isinstance(r.value, Handle) for r in recorded)


def test_a_reply_carries_so_much_and_its_largest_records_stay(desk, prompts, monkeypatch):
    sites = ("0.resid_mid", "0.mlp.post_act", "1.resid_mid", "1.mlp.post_act")
    request = hook(prompts, *(Record(site=site) for site in sites))
    widths = np.array([desk.ask(request).reply.recorded[i].value.shape[2] for i in range(4)])
    assert widths.tolist() == [32, 64, 32, 64]
    one = 3 * 7 * 4  # bytes of one channel
    for room, held in [(192, []), (191, [1]), (128, [1]), (127, [1, 3]), (63, [0, 1, 3])]:
        monkeypatch.setattr(output, "AUTO_INLINE_NBYTES", room * one)
        recorded = hook_result(desk.ask(request).reply).recorded
        assert [i for i, r in enumerate(recorded) if isinstance(r.value, Handle)] == held


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (Record(site="7.mlp.post_act"), "not_found"),
        (Record(site="0.mlp.post_act", channels=(64,)), "invalid_request"),
        (Record(site="0.mlp.post_act", positions=(7,)), "invalid_request"),
        (Record(site="0.attn.pattern", reduce="mean"), "invalid_request"),
        (Record(site="re:(a+)+b"), "not_found"),
    ],
)
def test_records_that_cannot_be_taken_are_refused(desk, prompts, record, code):
    assert desk.fail(hook(prompts, record)).error.code == code


def test_an_unknown_site_brings_the_nearest_names(desk, prompts):
    error = desk.fail(hook(prompts, Record(site="0.mlp.postact"))).error
    assert "0.mlp.post_act" in error.nearest


def test_recording_more_than_there_is_memory_for_is_refused_before_it_runs(
    desk, prompts, monkeypatch
):
    monkeypatch.setattr("circuitd.worker.memory._SMALL_NBYTES", 0)
    monkeypatch.setattr(
        "circuitd.engine.device.memory",
        lambda device: type("M", (), {"free_nbytes": 1000})(),
    )
    error = desk.fail(hook(prompts, Record(site="0.resid_in"))).error
    assert error.code == "out_of_memory"
    assert "1000" in error.found

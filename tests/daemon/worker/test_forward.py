"""`forward` against direct calls of the engine, alone and merged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from circuit_protocol import interventions as iv
from circuit_protocol.replies import AnyReply, Failed, ForwardResult
from circuit_protocol.requests import Forward, Prompts
from circuit_protocol.tensors import Handle, Tensor, unpack
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.plan import Plan
from circuitd.worker import slices
from devices import DEVICES

#: What handlers do, they do on every device of the machine.
pytestmark = pytest.mark.parametrize("desk", DEVICES, indirect=True)

Packed = Callable[..., Tensor]


def forward_result(reply: AnyReply) -> ForwardResult:
    assert isinstance(reply, ForwardResult)
    return reply


def engine_logits(desk, prompts: Prompts, **plan) -> torch.Tensor:
    tokens = torch.from_numpy(unpack(prompts.tokens, ()).astype(np.int64))
    lengths = torch.tensor(prompts.lengths)
    logits = gpt.forward(desk.model.weights, tokens, Plan(lengths=lengths, **plan)).logits
    assert logits is not None
    return logits.cpu()


def test_all_logits_equal_the_engines(desk, prompts):
    answered = desk.ask(Forward(id="1", model="tiny", prompts=prompts))
    reply = forward_result(answered.reply)
    logits = desk.array(reply.logits, answered)
    assert logits.shape == (3, 7, 2048)
    expected = engine_logits(desk, prompts).numpy()
    for row, length in enumerate(prompts.lengths):
        np.testing.assert_allclose(logits[row, :length], expected[row, :length], rtol=1e-5)
    assert desk.array(reply.lengths, answered).tolist() == [7, 4, 6]
    assert (desk.array(reply.tokens, answered)[1, 4:] == 0).all()


def test_last_logits_are_those_of_each_rows_own_end(desk, prompts):
    answered = desk.ask(Forward(id="1", model="tiny", prompts=prompts, logits="last"))
    logits = desk.array(forward_result(answered.reply).logits, answered)
    expected = engine_logits(desk, prompts)[torch.arange(3), torch.tensor(prompts.lengths) - 1]
    np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_next_targets_score_every_token_but_the_first(desk, prompts):
    request = Forward(
        id="1", model="tiny", prompts=prompts, targets="next", token_loss=True, logits="none"
    )
    answered = desk.ask(request)
    reply = forward_result(answered.reply)
    assert reply.logits is None
    losses = desk.array(reply.token_loss, answered)
    tokens = unpack(prompts.tokens, ()).astype(np.int64)
    log_probabilities = engine_logits(desk, prompts).log_softmax(-1).numpy()
    expected = np.full((3, 7), np.nan)
    for row, length in enumerate(prompts.lengths):
        for at in range(length - 1):
            expected[row, at] = -log_probabilities[row, at, tokens[row, at + 1]]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert reply.loss == pytest.approx(np.nanmean(expected), rel=1e-5)


def test_given_targets_count_where_they_are_not_minus_one(desk, prompts, packed: Packed):
    targets = np.full((3, 7), -1)
    targets[0, 2], targets[2, 5] = 17, 99
    request = Forward(
        id="1", model="tiny", prompts=prompts, targets=packed(targets, np.int16), logits="none"
    )
    reply = forward_result(desk.ask(request).reply)
    log_probabilities = engine_logits(desk, prompts).log_softmax(-1)
    expected = -(log_probabilities[0, 2, 17] + log_probabilities[2, 5, 99]) / 2
    assert reply.loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("logits", "n_positions"), [("none", 7), ("last", 1), ("all", 7)])
def test_top_k_are_the_likeliest_next_tokens(desk, prompts, logits, n_positions):
    request = Forward(id="1", model="tiny", prompts=prompts, logits=logits, top_k=5)
    answered = desk.ask(request)
    top_k = forward_result(answered.reply).top_k
    assert top_k is not None
    ids, logprobs = desk.array(top_k.ids, answered), desk.array(top_k.logprobs, answered)
    assert ids.shape == logprobs.shape == (3, n_positions, 5)
    best = engine_logits(desk, prompts)[0, 6].log_softmax(-1).topk(5)
    assert ids[0, -1].tolist() == best.indices.tolist()
    np.testing.assert_allclose(logprobs[0, -1], best.values, rtol=1e-5)


def test_merged_requests_equal_each_alone(desk, prompts, packed: Packed):
    other = Prompts(tokens=packed(np.arange(11)[None]))
    one = Prompts(tokens=packed([[5]]))
    requests = [
        Forward(id="a", model="m", prompts=prompts, targets="next", token_loss=True),
        Forward(id="b", model="m", prompts=other, logits="last", top_k=3),
        Forward(id="c", model="m", prompts=one, logits="none", top_k=2),
        Forward(
            id="d",
            model="m",
            prompts=other,
            interventions=(iv.Zero(site="1.mlp.resid_delta"),),
        ),
    ]
    merged = [answers[-1] for answers in desk.ask_all(requests)]
    for request, together in zip(requests, merged, strict=True):
        alone = desk.ask(request)
        a, b = forward_result(alone.reply), forward_result(together.reply)
        assert a.id == b.id == request.id
        assert a.loss == pytest.approx(b.loss, rel=1e-5) if a.loss else b.loss is None
        if a.logits is not None:
            lengths = desk.array(a.lengths, alone)
            x, y = desk.array(a.logits, alone), desk.array(b.logits, together)
            assert x.shape == y.shape
            for row, length in enumerate(lengths):
                np.testing.assert_allclose(x[row, :length], y[row, :length], rtol=1e-4, atol=1e-5)
        if a.top_k is not None:
            assert b.top_k is not None
            ids = desk.array(a.top_k.ids, alone), desk.array(b.top_k.ids, together)
            assert np.array_equal(*ids)


def test_one_bad_request_of_a_merged_run_does_not_hurt_the_others(desk, prompts, packed: Packed):
    requests = [
        Forward(id="a", model="m", prompts=prompts),
        Forward(id="b", model="m", prompts=Prompts(tokens=packed([[5000]]))),
        Forward(id="c", model="m", prompts=Prompts(texts=("x = 1",))),
    ]
    a, b, c = (answers[-1].reply for answers in desk.ask_all(requests))
    assert isinstance(a, ForwardResult)
    assert isinstance(c, ForwardResult)
    assert isinstance(b, Failed)
    assert b.error.code == "bad_tokens"
    assert "5000" in b.error.asked


@pytest.mark.parametrize("with_intervention", [False, True])
def test_slices_of_rows_equal_one_pass(desk, packed: Packed, monkeypatch, with_intervention):
    tokens = np.random.default_rng(1).integers(0, 2048, (9, 5))
    request = Forward(
        id="1",
        model="m",
        prompts=Prompts(tokens=packed(tokens, np.int16), lengths=(5, 1, 2, 5, 5, 3, 4, 5, 5)),
        targets="next",
        token_loss=True,
        interventions=(iv.Scale(site="0.mlp.post_act", factor=2.0),) * with_intervention,
        deliver="inline",
    )
    whole = desk.ask(request)
    monkeypatch.setattr(slices, "rows_per_step", lambda weights, n_positions: 2)
    sliced = desk.ask(request)
    a, b = forward_result(whole.reply), forward_result(sliced.reply)
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    for name in ("logits", "token_loss"):
        x, y = desk.array(getattr(a, name), whole), desk.array(getattr(b, name), sliced)
        real = ~np.isnan(desk.array(a.token_loss, whole))
        np.testing.assert_allclose(x[real], y[real], rtol=1e-4, atol=1e-5)


def test_interventions_reach_the_engine(desk, prompts):
    request = Forward(
        id="1",
        model="m",
        prompts=prompts,
        interventions=(
            iv.Zero(site="*.mlp.post_act", channels=(0, 5)),
            iv.Scale(site="0.attn.v", heads=(1,), positions=(-1,), factor=-2.0),
        ),
        deliver="inline",
    )
    answered = desk.ask(request)
    expected = engine_logits(
        desk,
        prompts,
        interventions=(
            engine.Zero("0.mlp.post_act", channels=(0, 5)),
            engine.Zero("1.mlp.post_act", channels=(0, 5)),
            engine.Scale("0.attn.v", -2.0, heads=(1,), positions=(-1,)),
        ),
    )
    logits = desk.array(forward_result(answered.reply).logits, answered)
    np.testing.assert_allclose(logits[0], expected[0], rtol=1e-5, atol=1e-6)


def test_large_logits_stay_behind_a_handle_unless_asked_inline(desk, packed: Packed):
    prompts = Prompts(tokens=packed(np.zeros((4, 40)), np.uint8))
    auto = forward_result(desk.ask(Forward(id="1", model="m", prompts=prompts)).reply)
    assert isinstance(auto.logits, Handle)
    assert auto.logits.nbytes == 4 * 40 * 2048 * 4
    inline = forward_result(
        desk.ask(Forward(id="1", model="m", prompts=prompts, deliver="inline")).reply
    )
    assert isinstance(inline.logits, Tensor)
    small = Prompts(texts=("x",))
    handle = desk.ask(Forward(id="1", model="m", prompts=small, deliver="handle"))
    logits = forward_result(handle.reply).logits
    assert isinstance(logits, Handle)
    again = desk.ask(Forward(id="1", model="m", prompts=small, deliver="inline"))
    np.testing.assert_array_equal(
        desk.array(logits, handle), desk.array(forward_result(again.reply).logits, again)
    )


def test_texts_are_tokenised_and_token_ids_give_the_same(desk, packed: Packed):
    ids = desk.model.tokenizer.encode("def f(x):")
    by_text = desk.ask(Forward(id="1", model="m", prompts=Prompts(texts=("def f(x):",))))
    by_ids = desk.ask(Forward(id="1", model="m", prompts=Prompts(tokens=packed([ids]))))
    a, b = forward_result(by_text.reply), forward_result(by_ids.reply)
    assert desk.array(a.tokens, by_text).tolist() == [ids]
    np.testing.assert_array_equal(desk.array(a.logits, by_text), desk.array(b.logits, by_ids))


def test_an_all_one_token_batch_has_nothing_to_score(desk, packed: Packed):
    request = Forward(id="1", model="m", prompts=Prompts(tokens=packed([[1], [2]])), targets="next")
    assert desk.fail(request).error.code == "bad_tokens"


def test_cross_entropy_of_a_uniform_guess_is_log_v(desk, prompts):
    """With the unembedding's input at zero every token is as likely as its bias says."""
    request = Forward(
        id="1",
        model="m",
        prompts=prompts,
        targets="next",
        logits="none",
        interventions=(iv.Zero(site="final_resid"),),
    )
    bias = desk.model.weights.final_logits_bias
    logits = torch.zeros(2048) if bias is None else bias.cpu()
    tokens = torch.from_numpy(unpack(prompts.tokens, ()).astype(np.int64))
    counted = torch.cat([tokens[r, 1:n] for r, n in enumerate(prompts.lengths)])
    expected = F.cross_entropy(logits.expand(len(counted), -1), counted)
    assert forward_result(desk.ask(request).reply).loss == pytest.approx(float(expected), rel=1e-5)

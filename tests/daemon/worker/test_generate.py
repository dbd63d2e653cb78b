"""`generate`: the streamed tokens against the uncached run, and what stops it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuit_protocol import interventions as iv
from circuit_protocol.replies import GenerateResult, GenerateStep
from circuit_protocol.requests import Generate, Prompts, Record
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.plan import Plan
from circuitd.engine.plan import Record as EngineRecord


def generated(desk, **fields):
    """The steps and the end of a generation."""
    fields = {"id": "1", "model": "m", "prompts": Prompts(texts=("def f(x):",))} | fields
    *steps, last = desk.ask_all([Generate(**fields)])[0]
    assert isinstance(last.reply, GenerateResult), last.reply
    assert all(isinstance(step.reply, GenerateStep) for step in steps)
    assert tuple(step.reply.token for step in steps) == last.reply.tokens
    return steps, last.reply


def test_greedy_tokens_and_logprobs_equal_the_uncached_run(desk):
    steps, result = generated(desk, max_new_tokens=6)
    tokens = desk.model.tokenizer.encode("def f(x):")
    for step in steps:
        logits = gpt.forward(desk.model.weights, torch.tensor([tokens]), Plan(logits="last")).logits
        logprobs = logits[0].log_softmax(-1)
        assert step.reply.token == int(logprobs.argmax())
        assert step.reply.logprob == pytest.approx(float(logprobs.max()), rel=1e-4)
        assert step.reply.position == len(tokens)
        assert step.reply.data == desk.model.tokenizer.token_bytes(step.reply.token)
        tokens.append(step.reply.token)
    assert result.stopped_by == "length"
    assert result.text.encode("utf-8", "replace")
    assert len(result.tokens) == 6


def test_sampling_repeats_with_its_seed(desk):
    draw = {"temperature": 2.0, "top_k": 50, "max_new_tokens": 8}
    first, second, other = (generated(desk, seed=s, **draw)[1].tokens for s in (1, 1, 2))
    assert first == second != other


def test_a_stop_token_and_a_stop_text_end_it_and_stay_in_the_answer(desk):
    _, free = generated(desk, max_new_tokens=8)
    _, by_token = generated(desk, max_new_tokens=8, stop_tokens=(free.tokens[3],))
    first = free.tokens.index(free.tokens[3])
    assert by_token.stopped_by == "stop"
    assert by_token.tokens == free.tokens[: first + 1]
    data = [desk.model.tokenizer.token_bytes(token) for token in free.tokens]
    across = (data[2][-1:] + data[3][:1]).decode("utf-8")
    _, by_text = generated(desk, max_new_tokens=8, stop_texts=(across,))
    assert by_text.stopped_by == "stop"
    assert len(by_text.tokens) <= 4
    assert across in by_text.text


def test_the_end_of_the_context_ends_it(desk, packed):
    prompt = Prompts(tokens=packed(np.arange(46)[None], np.uint8))
    _, result = generated(desk, prompts=prompt, max_new_tokens=50)
    assert result.stopped_by == "context"
    assert len(result.tokens) == 3, "the last token needs no position"


def test_records_and_interventions_per_step_equal_the_uncached_run(desk):
    change = iv.Scale(site="0.attn.v", channels=(1, 2), factor=4.0)
    steps, result = generated(
        desk,
        max_new_tokens=4,
        interventions=(change,),
        records=(Record(site="1.mlp.post_act"), Record(site="1.resid_in", reduce="top_k", top_k=3)),
    )
    prompt = desk.model.tokenizer.encode("def f(x):")
    fed = torch.tensor([[*prompt, *result.tokens[:-1]]])
    plan = Plan(
        record=(EngineRecord("1.mlp.post_act"), EngineRecord("1.resid_in")),
        interventions=(engine.Scale("0.attn.v", 4.0, channels=(1, 2)),),
    )
    run = gpt.forward(desk.model.weights, fed, plan)
    pieces = [desk.array(s.reply.recorded[0].value, s) for s in steps]
    np.testing.assert_allclose(
        np.concatenate(pieces, axis=1), run.records["1.mlp.post_act"], rtol=1e-4, atol=1e-5
    )
    last = steps[-1].reply.recorded[1]
    where = desk.array(last.indices, steps[-1])
    assert set(where[:, 1]) == {fed.shape[1] - 1}
    stream = run.records["1.resid_in"][0, -1]
    assert where[:, 2].tolist() == stream.abs().topk(3).indices.tolist()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompts": Prompts(texts=("a", "b"))}, "bad_tokens"),
        ({"stop_texts": ("",)}, "bad_tokens"),
        ({"records": (Record(site="1.resid_in", positions=(-1,)),)}, "invalid_request"),
        ({"interventions": (iv.Freeze(site="0.attn.pattern"),)}, "bad_intervention"),
    ],
)
def test_what_cannot_be_generated_is_refused(desk, fields, code):
    fields = {"id": "1", "model": "m", "prompts": Prompts(texts=("x = 1",))} | fields
    assert desk.fail(Generate(**fields)).error.code == code

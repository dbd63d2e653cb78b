"""The network against the independent implementation, for every configuration field."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import Cancelled, PlanError, TokenError
from circuitd.engine.gpt import forward, forward_from
from circuitd.engine.interventions import Scale, Zero
from circuitd.engine.plan import Gradient, LogitDifference, Plan, Record, TwoTokenLoss
from circuitd.engine.sites import sites
from circuitd.engine.weights import Weights
from reference_gpt import run as reference
from small_models import (
    FOREIGN,
    REPRODUCIBLE,
    TINY,
    configs,
    golden_config,
    golden_state,
    random_model,
    random_state,
    tokens_for,
)

EPS64 = float(np.finfo(np.float64).eps)


def activations(config):
    return [site.name for site in sites(config) if site.is_activation]


@given(config=configs(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_equals_the_independent_network_at_every_site(config, seed):
    state = random_state(config, seed, torch.float64)
    weights = Weights.from_state(config, state, torch.float64)
    tokens = tokens_for(config, 2, 7, seed)
    seen = {}
    expected = reference(
        config, state, tokens.numpy(), lambda s, x: seen.setdefault(s, x), rms_eps=EPS64
    )
    run = forward(weights, tokens, Plan(record=tuple(map(Record, activations(config)))))
    np.testing.assert_allclose(run.logits.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert list(run.records) == list(seen) == activations(config)
    for site, value in seen.items():
        np.testing.assert_allclose(run.records[site].numpy(), value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*FOREIGN, REPRODUCIBLE])
def test_released_files_give_what_the_independent_network_gives(name):
    config, state = golden_config(name), golden_state(name)
    tokens = tokens_for(config, 1, 10)
    found = forward(Weights.from_state(config, state), tokens).logits.numpy()
    expected = reference(config, state, tokens.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@given(config=configs(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_fused_and_explicit_paths_agree(config, seed):
    weights = random_model(config, seed, torch.float64)
    tokens = tokens_for(config, 2, 6, seed)
    special = tuple(Record(site.name) for site in sites(config) if not site.is_activation)
    fused, explicit = forward(weights, tokens), forward(weights, tokens, Plan(record=special))
    torch.testing.assert_close(fused.logits, explicit.logits)
    pattern = explicit.records["0.attn.pattern"]
    assert pattern.shape == (2, config.n_head, 6, 7 if config.sink else 6)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, config.n_head, 6).double())


@given(config=configs(), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=15, deadline=None)
def test_gradients_equal_central_differences(config, seed, data):
    weights = random_model(config, seed, torch.float64)
    tokens = tokens_for(config, 2, 5, seed)
    site = data.draw(st.sampled_from(activations(config)))
    # Scaling by 1 + h moves along the activation itself, so nothing crosses a top-k boundary.
    objective = data.draw(st.sampled_from([LogitDifference(1, 2), TwoTokenLoss(1, 2)]))
    plan = Plan(gradient=Gradient(objective, (site,)), record=(Record(site),))
    run = forward(weights, tokens, plan)
    slope = (run.grads[site] * run.records[site]).sum()
    h = 1e-6
    values = []
    for factor in (1 + h, 1 - h):
        moved = dataclasses.replace(plan, interventions=(Scale(site, factor),))
        values.append(forward(weights, tokens, moved).objective.sum())
    torch.testing.assert_close((values[0] - values[1]) / (2 * h), slope, rtol=1e-4, atol=1e-6)


def test_objectives_are_row_wise_and_chance_is_ln_2():
    weights, tokens = random_model(TINY), tokens_for(TINY, 3, 6)
    lengths = torch.tensor([6, 4, 2])
    last = forward(weights, tokens, Plan(lengths=lengths, logits="last")).logits
    a, b = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    rows = torch.arange(3)
    for position in (None, -1):
        plan = Plan(
            lengths=lengths, gradient=Gradient(LogitDifference(a, b, position), ("0.resid_in",))
        )
        run = forward(weights, tokens, plan)
        torch.testing.assert_close(run.objective, last[rows, a] - last[rows, b])
        assert not run.grads["0.resid_in"][1, 4:].any()  # padding does not matter
    two = forward(weights, tokens, Plan(gradient=Gradient(TwoTokenLoss(7, 7), ("final_resid",))))
    torch.testing.assert_close(two.objective, torch.full((3,), np.log(2.0), dtype=torch.float32))
    plan = Plan(lengths=lengths, gradient=Gradient(LogitDifference(1, 2, 3), ("0.resid_in",)))
    with pytest.raises(TokenError, match="no such token"):
        forward(weights, tokens, plan)


def test_ragged_batch_equals_each_prompt_alone():
    config = dataclasses.replace(TINY, afrac=0.5, enable_bigram_table=True, d_pos_emb=4)
    weights, tokens = random_model(config), tokens_for(config, 3, 8)
    lengths, targets = torch.tensor([8, 3, 5]), tokens_for(config, 3, 8, seed=1)
    records = (
        Record("1.mlp.post_act"),
        Record("1.attn.y", positions=(-1, 0), key="ends"),
        Record("1.attn.y", reduce="mean", key="mean"),
        Record("1.attn.y", reduce="max_abs", key="max"),
    )
    plan = Plan(lengths=lengths, targets=targets, logits="last", record=records)
    batch = forward(weights, tokens, plan)
    for row, length in enumerate(lengths.tolist()):
        short = dataclasses.replace(plan, lengths=None, targets=targets[row : row + 1, :length])
        alone = forward(weights, tokens[row : row + 1, :length], short)
        torch.testing.assert_close(batch.logits[row], alone.logits[0])
        torch.testing.assert_close(batch.token_loss[row, :length], alone.token_loss[0])
        assert not batch.token_loss[row, length:].any()
        for key in ("ends", "mean", "max"):
            torch.testing.assert_close(batch.records[key][row], alone.records[key][0])
        torch.testing.assert_close(
            batch.records["1.mlp.post_act"][row, :length], alone.records["1.mlp.post_act"][0]
        )
    counted = sum(lengths.tolist())
    torch.testing.assert_close(batch.loss, batch.token_loss.sum() / counted)


@given(config=configs(), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=15, deadline=None)
def test_starting_from_a_recorded_layer_equals_the_whole_pass(config, seed, data):
    weights, tokens = random_model(config, seed), tokens_for(config, 2, 6, seed)
    layer = data.draw(st.integers(0, config.n_layer))
    site = "final_resid" if layer == config.n_layer else f"{layer}.resid_in"
    change = Plan(interventions=(Scale(site, 0.5, positions=(2,)),))
    resid = forward(weights, tokens, Plan(record=(Record(site),), stop_after=site)).records[site]
    for plan in (Plan(), change):
        part = forward_from(weights, tokens, layer, resid, plan)
        torch.testing.assert_close(part.logits, forward(weights, tokens, plan).logits)
    if layer:
        with pytest.raises(PlanError, match="starts after it"):
            forward_from(weights, tokens, layer, resid, Plan(interventions=(Zero("0.attn.q"),)))


def test_one_recorded_row_serves_a_whole_batch_of_masks():
    weights, tokens = random_model(TINY), tokens_for(TINY, 1, 6)
    resid = forward(weights, tokens, Plan(record=(Record("1.resid_in"),))).records["1.resid_in"]
    wide = forward_from(weights, tokens.expand(4, -1), 1, resid)
    torch.testing.assert_close(wide.logits, forward(weights, tokens).logits.expand(4, -1, -1))


def test_stop_after_computes_nothing_later_and_gives_no_logits():
    weights, tokens = random_model(TINY), tokens_for(TINY, 1, 6)
    calls = []
    plan = Plan(
        record=(Record("0.attn.q"), Record("1.attn.q")),
        stop_after="0.attn.q",
        cancelled=lambda: bool(calls.append(1)),
    )
    run = forward(weights, tokens, plan)
    assert run.logits is None
    assert set(run.records) == {"0.attn.q"}
    assert len(calls) == 1


def test_cancelling_stops_between_layers():
    weights, tokens = random_model(TINY), tokens_for(TINY, 1, 6)
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Cancelled):
        forward(weights, tokens, Plan(cancelled=cancelled))
    assert len(asked) == 2


def test_two_threads_with_two_plans_get_what_each_gets_alone():
    weights, tokens = random_model(TINY), tokens_for(TINY, 2, 8)
    plans = [
        Plan(interventions=(Zero("0.attn.q"),), record=(Record("1.resid_mid"),)),
        Plan(gradient=Gradient(LogitDifference(1, 2), ("0.resid_in",))),
        Plan(interventions=(Scale("1.mlp.post_act", -3.0),)),
    ]
    alone = [forward(weights, tokens, plan) for plan in plans]
    wrong = []
    barrier = threading.Barrier(len(plans))

    def work(plan, expected):
        barrier.wait()
        for _ in range(30):
            run = forward(weights, tokens, plan)
            same = torch.equal(run.logits, expected.logits)
            same &= all(torch.equal(run.grads[s], g) for s, g in expected.grads.items())
            same &= all(torch.equal(run.records[s], r) for s, r in expected.records.items())
            if not same:
                wrong.append(plan)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(plans, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_rows_do_not_see_each_other():
    config = dataclasses.replace(TINY, afrac=0.25, afrac_loctypes=("attn_in", "mlp_neuron"))
    weights, tokens = random_model(config), tokens_for(config, 4, 8)
    batch = forward(weights, tokens).logits
    for row in range(4):
        torch.testing.assert_close(batch[row], forward(weights, tokens[row : row + 1]).logits[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(dtype):
    weights, tokens = random_model(TINY), tokens_for(TINY, 2, 8)
    half = Weights.from_state(TINY, random_state(TINY), dtype)
    special = tuple(Record(site.name) for site in sites(TINY) if not site.is_activation)
    expected = forward(weights, tokens).logits
    for plan in (Plan(targets=tokens), Plan(targets=tokens, record=special)):
        run = forward(half, tokens, plan)
        assert run.logits.dtype == dtype
        assert run.loss.dtype == torch.float32
        assert (run.logits.float() - expected).abs().max() < 0.06 * expected.abs().max()


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (torch.zeros(0, 4, dtype=torch.int64), "empty"),
        (torch.zeros(1, 0, dtype=torch.int64), "empty"),
        (torch.zeros(1, 17, dtype=torch.int64), "block_size 16"),
        (torch.tensor([[23]]), "0..22"),
        (torch.tensor([[-1]]), "0..22"),
        (torch.zeros(3, dtype=torch.int64), "not a batch"),
        (torch.zeros(1, 3), "not a batch"),
    ],
)
def test_tokens_the_network_cannot_take(tokens, found):
    with pytest.raises(TokenError, match=found):
        forward(random_model(TINY), tokens)


def test_targets_and_lengths_are_checked():
    weights, tokens = random_model(TINY), tokens_for(TINY, 2, 4)
    wrong = [
        Plan(targets=torch.full((2, 4), -1)),
        Plan(targets=torch.full((2, 4), 23)),
        Plan(targets=torch.zeros(2, 3, dtype=torch.int64)),
        Plan(lengths=torch.tensor([4])),
        Plan(lengths=torch.tensor([4, 5])),
        Plan(lengths=torch.tensor([0, 4])),
    ]
    for plan in wrong:
        with pytest.raises(TokenError):
            forward(weights, tokens, plan)
    with pytest.raises(PlanError):
        Plan(gradient=Gradient("loss", ("0.attn.q",)))
    with pytest.raises(PlanError):
        Plan(stop_after="0.attn.q", targets=tokens)
    with pytest.raises(PlanError):
        Plan(record=(Record("0.attn.q"), Record("0.attn.q")))


def test_weights_are_never_changed_and_never_ask_for_a_gradient():
    state = random_state(TINY)
    weights = Weights.from_state(TINY, state)
    before = {name: tensor.clone() for name, tensor in state.items()}
    plan = Plan(
        gradient=Gradient(LogitDifference(1, 2), ("0.attn.q",)),
        interventions=(Zero("0.attn.k"), Scale("1.resid_in", 2.0)),
    )
    forward(weights, tokens_for(TINY, 2, 8), plan)
    torch.testing.assert_close(
        weights.layers[0].c_attn, before["transformer.h.0.attn.c_attn.weight"]
    )
    state["transformer.wte.weight"].zero_()  # the caller's tensors are not the network's
    assert weights.wte.any()
    assert not weights.wte.requires_grad


def test_a_plan_may_use_inference_tensors_for_a_gradient():
    weights, tokens = random_model(TINY), tokens_for(TINY, 2, 8)
    captured = forward(weights, tokens, Plan(record=(Record("1.resid_in"),))).records["1.resid_in"]
    assert captured.is_inference()
    with torch.inference_mode():
        run = forward_from(
            weights,
            tokens,
            1,
            captured,
            Plan(targets=tokens, gradient=Gradient("loss", ("1.attn.q",))),
        )
    assert run.grads["1.attn.q"].any()


def test_nbytes_counts_tied_tensors_once():
    config = GPTConfig(block_size=4, vocab_size=10, n_layer=1, n_head=1, d_model=4)
    state = random_state(config)
    n_entries = sum(t.numel() for name, t in state.items() if name != "lm_head.weight")
    assert Weights.from_state(config, state).nbytes == 4 * n_entries

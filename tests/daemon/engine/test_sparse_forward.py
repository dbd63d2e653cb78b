"""A pass on the sparse blocks is a pass through the network: any plan, any batch, any density."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from any_plan import assert_same, plans
from circuitd.engine import interventions as acts
from circuitd.engine.config import LOCATIONS
from circuitd.engine.cuts import Cut
from circuitd.engine.errors import Cancelled
from circuitd.engine.gpt import forward, forward_from
from circuitd.engine.plan import Gradient, LogitDifference, Plan, Record
from circuitd.engine.sites import sites_by_name
from circuitd.engine.sparse.aligned import room
from circuitd.engine.sparse.choice import Choice, apply, choose
from circuitd.engine.sparse.tiles.attention import attend_heads
from circuitd.engine.sparse.tiles.blocks import SparseBlocks
from circuitd.engine.sparse.tiles.matrices import SparseWeights
from circuitd.engine.sparse.tiles.tiles import Tiles
from circuitd.engine.weights import Weights
from small_models import (
    REPRODUCIBLE,
    TINY,
    configs,
    golden_config,
    golden_state,
    golden_vectors,
    random_model,
    tokens_for,
)

DEEP = dataclasses.replace(
    TINY, n_layer=3, block_size=48, d_model=24, d_mlp=40, afrac=0.5, d_pos_emb=6,
    enable_bigram_table=True,
    afrac_loctypes=tuple(place for place in LOCATIONS if not place.startswith("resid")),
)  # fmt: skip


def on_nonzeros(weights, is_sparse=(True, True, True, True), n_threads=2):
    nonzeros = SparseWeights.of(weights, (is_sparse,) * weights.config.n_layer)
    return dataclasses.replace(weights, sparse=SparseBlocks(nonzeros, n_threads))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), config=configs(), seed=st.integers(0, 2**16))
def test_any_plan_on_any_network_equals_the_dense_execution(data, config, seed):
    weights = random_model(config, seed)
    n_rows, n_positions = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    tokens = tokens_for(config, n_rows, n_positions, seed)
    plan, lengths = data.draw(plans(config, tokens, seed))
    is_sparse = data.draw(st.tuples(*[st.booleans()] * 4))
    found = forward(on_nonzeros(weights, is_sparse), tokens, plan)
    assert found.execution == "sparse"
    assert_same(found, forward(weights, tokens, plan), lengths, n_positions)


@pytest.mark.parametrize("looks", [False, True])
def test_the_published_networks_golden_vectors_come_out(looks):
    """Through the fused stages, and again with a stop at every site."""
    config = golden_config(REPRODUCIBLE)
    weights = on_nonzeros(Weights.from_state(config, golden_state(REPRODUCIBLE)))
    golden = golden_vectors(REPRODUCIBLE)
    record = tuple(Record(name) for name in sites_by_name(config)) if looks else ()
    plan = Plan(record=record, targets=golden["targets"])
    run = forward(weights, golden["tokens"], plan)
    assert run.execution == "sparse"
    torch.testing.assert_close(run.logits, golden["logits"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.loss, golden["loss"], rtol=1e-5, atol=1e-6)
    for name, value in run.records.items():
        if name in golden:
            torch.testing.assert_close(value, golden[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start_layer", [0, 1, 3])
def test_a_pass_from_a_later_layer_continues_the_first(start_layer):
    weights = random_model(DEEP)
    tokens, lengths = tokens_for(DEEP, 3, 30), torch.tensor([30, 4, 17])
    site = "final_resid" if start_layer == 3 else f"{start_layer}.resid_in"
    plan = Plan(lengths=lengths)
    whole = forward(weights, tokens, dataclasses.replace(plan, record=(Record(site),)))
    found = forward_from(on_nonzeros(weights), tokens, start_layer, whole.records[site], plan)
    assert found.execution == "sparse"
    assert_same(found, dataclasses.replace(whole, records={}), lengths.tolist(), 30)


def test_neither_threads_nor_the_rest_of_the_batch_change_a_bit():
    weights = random_model(DEEP)
    tokens, lengths = tokens_for(DEEP, 5, 40), torch.tensor([40, 3, 21, 16, 33])
    plan = Plan(record=(Record("1.mlp.post_act"),), lengths=lengths)
    runs = [forward(on_nonzeros(weights, n_threads=n), tokens, plan) for n in (1, 2, 5)]
    for run in runs[1:]:
        assert torch.equal(run.records["1.mlp.post_act"], runs[0].records["1.mlp.post_act"])
    alone = forward(on_nonzeros(weights), tokens[2:3, :21], Plan(record=plan.record))
    assert torch.equal(
        alone.records["1.mlp.post_act"][0], runs[0].records["1.mlp.post_act"][2, :21]
    )


def test_two_plans_at_once_on_one_model_do_not_meet():
    weights = on_nonzeros(random_model(DEEP))
    tokens = tokens_for(DEEP, 4, 48)
    plans = [Plan(), Plan(interventions=(acts.Zero("0.mlp.post_act"),))]
    expected = [forward(weights, tokens, plan).logits for plan in plans]
    found: list[list[torch.Tensor]] = [[], []]
    start = threading.Barrier(2)

    def ask(which):
        start.wait()
        for _ in range(10):
            found[which].append(forward(weights, tokens, plans[which]).logits)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in range(2):
        assert all(torch.equal(logits, expected[which]) for logits in found[which])


def test_a_cancelled_pass_ends_between_two_layers():
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(Cancelled):
        forward(on_nonzeros(random_model(DEEP)), tokens_for(DEEP, 1, 8), Plan(cancelled=cancelled))
    assert len(asked) == DEEP.n_layer


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (
            Plan(gradient=Gradient(LogitDifference(1, 2), ("0.mlp.post_act",))),
            "a gradient is wanted",
        ),
        (Plan(cuts=(Cut("0.mlp.act_in", "0.mlp.post_act", 1, 2),)), "edges are cut"),
    ],
)
def test_what_it_cannot_do_runs_densely_and_says_so(plan, reason):
    weights, tokens = random_model(DEEP), tokens_for(DEEP, 2, 9)
    found, expected = forward(on_nonzeros(weights), tokens, plan), forward(weights, tokens, plan)
    assert found.execution == f"dense, since {reason}"
    assert expected.execution == "dense"
    assert torch.equal(found.logits, expected.logits)


def test_a_toy_stays_dense_without_a_look_at_the_kernels():
    assert choose(random_model(TINY)).summary == "dense, since it is small"


def test_the_choice_is_measured_and_can_be_applied_again(monkeypatch):
    monkeypatch.setattr("circuitd.engine.sparse.choice._MIN_WEIGHTS", 0)
    weights = random_model(DEEP)
    choice = choose(weights)
    assert choice.dense_s > 0
    assert choice.sparse_s > 0
    assert (choice.sparse_s < choice.dense_s) == bool(choice.is_sparse)
    assert choice.summary.startswith("sparse" if choice.is_sparse else "dense, since sparse takes")
    forced = Choice(((True, False, True, True),) * 3, "", 2.0, 1.0)
    assert forced.summary == "sparse (9 of 12 matrices, 2.0 times as fast as dense)"
    running = apply(weights, forced)
    assert running.nbytes > weights.nbytes
    assert forward(running, tokens_for(DEEP, 1, 5)).execution == "sparse"
    assert apply(running, Choice(reason="asked")).sparse is None
    with pytest.raises(ValueError, match="2 layers, the network has 3"):
        apply(weights, Choice(((True,) * 4,) * 2))


def test_a_model_in_half_precision_stays_dense():
    weights = random_model(TINY, dtype=torch.bfloat16)
    assert choose(weights).summary == "dense, since it is in bfloat16 and the kernels take float32"


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    d_head=st.sampled_from((3, 8, 12, 16)),
    has_sinks=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_what_is_not_a_number_stays_in_its_row_and_in_its_future(lengths, d_head, has_sinks, seed):
    rng = np.random.default_rng(seed)
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    tiles = Tiles.pack(tokens, tuple(lengths))
    shape = (len(lengths), max(lengths), 3 * 2 * d_head)
    qkv = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    sinks = rng.standard_normal(2 if has_sinks else 0).astype(np.float32)

    def attended(values):
        laid, out = room(tiles.n_tiles, shape[2], 16), room(tiles.n_tiles, shape[2] // 3, 16)
        tiles.fill(values, laid)
        for tile in range(tiles.n_tiles):
            scores = room((tile + 1) * 16, 16)
            attend_heads(laid, tile, tiles.starts[tile], d_head, sinks, scores, out[tile])
        return tiles.spread(out)

    whole = attended(qkv)
    row = int(rng.integers(len(lengths)))
    position = int(rng.integers(lengths[row]))
    broken = qkv.clone()
    broken[row, position] = np.nan
    found = attended(broken)
    others = [i for i in range(len(lengths)) if i != row]
    assert torch.equal(found[others], whole[others])
    assert torch.equal(found[row, :position], whole[row, :position])
    assert found[row, position : lengths[row]].isnan().all()
    for i, length in enumerate(lengths):
        q, k, v = qkv[i, :length].view(length, 3, 2, d_head).permute(1, 2, 0, 3).double()
        expected = reference_attention(q, k, v, sinks if has_sinks else None)
        torch.testing.assert_close(whole[i, :length].double(), expected, rtol=1e-5, atol=1e-6)


def reference_attention(q, k, v, sinks):
    """[T, heads * d_head] of queries, keys and values [heads, T, d_head], written out."""
    n = q.shape[1]
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
    if sinks is not None:
        column = torch.from_numpy(sinks).double()[:, None, None].expand(-1, n, 1)
        scores = torch.cat([scores, column], 2)
    return (scores.softmax(2)[:, :, :n] @ v).transpose(0, 1).flatten(1)

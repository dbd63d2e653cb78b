"""A planted network does what its truth says: the true nodes suffice, and each is needed."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

import reference_gpt
from circuitd.circuits.ablate import CODES, KEEP, MEAN, RESAMPLE, ZERO, EdgeCut, Mask, Sweep
from circuitd.circuits.edges import edges_between
from circuitd.circuits.nodes import node_space
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan, Record
from circuitd.engine.weights import Weights
from planted import SHAPES, Edge, Planted, nonsense_task, plant, shuffled_labels
from planted.network import scored

SEEDS = range(2)
SUFFICES, FAILS = 0.05, 0.15


@functools.cache
def cached(shape: str, seed: int) -> Planted:
    return plant(shape, seed)


@pytest.fixture(params=[(shape, seed) for shape in SHAPES for seed in SEEDS], ids=str)
def planted(request) -> Planted:
    return cached(*request.param)


def circuit_mask(planted: Planted, code: int = MEAN) -> Mask:
    return Mask(np.where(planted.mask, KEEP, code).astype(np.uint8))


def without(base: Mask, nodes: np.ndarray, code: int) -> Mask:
    codes = base.codes.copy()
    codes[nodes] = code
    return Mask(codes)


def losses(planted: Planted, base: Mask, masks: Sequence[Mask], batch=None) -> np.ndarray:
    """Loss of the base, then of each mask, float [1 + n]."""
    prompts = scored(planted.train if batch is None else batch)
    sweep = Sweep(planted.weights, prompts, base, planted.means, rows_per_step=1024)
    parts = [sweep.score_base(), *(scores for scores in sweep.run(masks) if scores is not None)]
    return torch.cat([part.losses for part in parts]).numpy()


def cuts(edges: Sequence[Edge]) -> tuple[EdgeCut, ...]:
    return tuple(EdgeCut(*dataclasses.astuple(edge), MEAN) for edge in edges)


def test_the_whole_network_does_the_task_on_both_splits(planted):
    whole = Mask(np.zeros_like(circuit_mask(planted).codes))
    for batch in (planted.train, planted.held_out):
        assert losses(planted, whole, [], batch) < SUFFICES


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("kind", ["mean", "zero"])
def test_the_true_nodes_suffice_and_none_can_be_spared(planted, kind, split):
    code, true = CODES[kind], np.flatnonzero(planted.mask)
    circuit = circuit_mask(planted, code)
    masks = [without(circuit, true[[i]], code) for i in range(len(true))]
    alone, *spared = losses(planted, circuit, masks, getattr(planted, split))
    assert alone < SUFFICES
    assert min(spared) > FAILS


def test_under_resampling_what_all_prompts_share_can_be_spared(planted):
    space, circuit = node_space(planted.config), circuit_mask(planted, RESAMPLE)
    shared = planted.mask & space.mask((s, [c]) for s, c in planted.same_in_all_prompts)
    needed = np.flatnonzero(planted.mask & ~shared)
    masks = [without(circuit, needed[[i]], RESAMPLE) for i in range(len(needed))]
    alone, fewer, *spared = losses(planted, circuit, [without(circuit, shared, RESAMPLE), *masks])
    assert max(alone, fewer) < SUFFICES
    assert min(spared) > FAILS


def test_no_part_of_the_true_nodes_does_with_any_part_of_the_others(planted):
    rng = np.random.default_rng(0)
    true = planted.mask
    masks = []
    for n in range(24):
        dropped = rng.random(len(true)) < rng.random()
        some = true & dropped
        if not some.any():
            some[rng.choice(np.flatnonzero(true))] = True
        codes = np.where(dropped & ~true | some, (MEAN, RESAMPLE, ZERO)[n % 3], KEEP)
        masks.append(Mask(codes.astype(np.uint8)))
    assert losses(planted, circuit_mask(planted), masks)[1:].min() > FAILS


def test_other_nodes_move_but_not_the_answers(planted):
    """Any of them may be ablated in any way: the loss stays within 15 % of the whole network's,
    as they reach the answers only through the scale of the norms.
    """
    true, rng = planted.mask, np.random.default_rng(0)
    masks = []
    for n in range(12):
        dropped = ~true & (rng.random(len(true)) < rng.random())
        masks.append(Mask(np.where(dropped, (MEAN, RESAMPLE)[n % 2], KEEP).astype(np.uint8)))
    whole, *ablated = losses(planted, Mask(np.zeros(len(true), dtype=np.uint8)), masks)
    np.testing.assert_allclose(ablated, whole, rtol=0.15)

    space = node_space(planted.config)
    plan = Plan(record=tuple(Record(site.name) for site in space.sites), logits="none")
    run = forward(planted.weights, torch.from_numpy(planted.train.tokens), plan)
    spread = torch.cat([run.records[site.name].std((0, 1)) for site in space.sites]).numpy()
    assert (spread[~true] > 0.01).mean() > 0.5


def test_edges_are_the_nonzero_weights_between_true_nodes(planted):
    counted = {
        Edge(edges.source, int(s), edges.target, int(t))
        for edges in edges_between(planted.weights, planted.mask)
        for s, t in zip(edges.source_channels, edges.target_channels, strict=True)
    }
    assert counted == planted.edges
    assert planted.causal_edges <= planted.edges


def test_causal_edges_suffice_and_none_can_be_spared(planted):
    circuit = circuit_mask(planted)
    masks = [Mask(circuit.codes, cuts([edge])) for edge in sorted(planted.causal_edges)]
    idle = Mask(circuit.codes, cuts(sorted(planted.edges - planted.causal_edges)))
    _, all_idle_cut, *spared = losses(planted, circuit, [idle, *masks])
    assert all_idle_cut < SUFFICES
    assert min(spared) > FAILS


@pytest.mark.parametrize("shape", ["marker", "topk"])
def test_some_edges_between_true_nodes_carry_nothing(shape):
    found = cached(shape, 0)
    assert len(found.edges - found.causal_edges) == 2


def test_weights_lead_from_true_to_other_nodes_and_back(planted):
    true = planted.mask
    into_others = edges_between(planted.weights, np.ones_like(true))
    space = node_space(planted.config)
    between = {(False, True): 0, (True, False): 0}
    for edges in into_others:
        source = true[space.nodes(edges.source)][edges.source_channels]
        target = true[space.nodes(edges.target)][edges.target_channels]
        for kind in between:
            between[kind] += int(((source == kind[0]) & (target == kind[1])).sum())
    assert min(between.values()) >= 10


@pytest.mark.parametrize("shape", SHAPES)
def test_the_engine_agrees_with_an_independent_network(shape):
    planted = cached(shape, 0)
    tokens = planted.text[:2, :8]
    expected = reference_gpt.run(planted.config, planted.state, tokens.numpy())
    logits = forward(planted.weights, tokens).logits
    torch.testing.assert_close(logits.double().numpy(), expected, rtol=1e-3, atol=1e-3)


def test_activation_sparsity_acts_at_all_eight_locations():
    planted = cached("topk", 0)
    assert len(planted.config.afrac_loctypes) == 8
    logits = forward(planted.weights, planted.text).logits
    for location in planted.config.afrac_loctypes:
        rest = tuple(name for name in planted.config.afrac_loctypes if name != location)
        config = dataclasses.replace(planted.config, afrac_loctypes=rest)
        other = forward(Weights.from_state(config, planted.state), planted.text).logits
        assert (other - logits).abs().max() > 0.01, location


@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_gives_the_same_network_again_and_another_one_another(shape):
    first, again, other = plant(shape, 5), plant(shape, 5), plant(shape, 6)
    assert first.nodes == again.nodes
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    np.testing.assert_array_equal(first.train.tokens, again.train.tokens)
    assert first.nodes != other.nodes


def test_circuits_are_as_large_as_real_ones():
    for shape in SHAPES:
        for seed in SEEDS:
            planted = cached(shape, seed)
            assert 5 <= planted.mask.sum() <= 30
            assert len(planted.mask) >= 400


def test_nonsense_has_no_rule_a_planted_network_could_follow():
    planted = cached("topk", 0)
    nonsense = nonsense_task(planted.config.vocab_size, 200, 12, seed=1)
    assert nonsense.tokens.shape == (400, 12)
    assert len(np.unique(nonsense.answers)) == 2
    whole = Mask(np.zeros(len(planted.mask), dtype=np.uint8))
    assert losses(planted, whole, [], nonsense) > 0.5
    held_out = nonsense_task(planted.config.vocab_size, 200, 12, seed=1, split="held_out")
    np.testing.assert_array_equal(held_out.answers, nonsense.answers)
    assert not (held_out.tokens == nonsense.tokens).all(1).any()


def test_shuffled_labels_are_right_for_half_of_the_pairs():
    planted = cached("marker", 0)
    shuffled = shuffled_labels(planted.train, seed=3)
    same = (shuffled.answers == planted.train.answers).all(1)
    assert same.sum() == planted.train.n / 2
    np.testing.assert_array_equal(shuffled.answers[~same], planted.train.answers[~same, ::-1])
    np.testing.assert_array_equal(shuffled.tokens, planted.train.tokens)
    whole = Mask(np.zeros(len(planted.mask), dtype=np.uint8))
    assert losses(planted, whole, [], shuffled) > 1

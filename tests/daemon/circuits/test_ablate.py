"""Ablation sweeps equal separate runs, edited weights, and each other."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.circuits.ablate import (
    CODES,
    KEEP,
    MEAN,
    RESAMPLE,
    ZERO,
    EdgeCut,
    Mask,
    Sweep,
)
from circuitd.circuits.edges import edge_matrices, edges_between
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Mean, Patch, Zero
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.plan import Plan, Record
from circuitd.engine.weights import Weights


@pytest.fixture(scope="module")
def prompts(config) -> ScoredPrompts:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, config.vocab_size, (6, 9), generator=generator)
    lengths = torch.tensor([9, 7, 9, 4, 9, 8])
    answers = torch.randint(0, config.vocab_size, (6, 2), generator=generator)
    return ScoredPrompts(tokens, lengths, answers=answers)


@pytest.fixture(scope="module")
def means(config) -> torch.Tensor:
    return torch.randn(node_space(config).n_nodes, generator=torch.Generator().manual_seed(2)) / 4


def blank(config) -> np.ndarray:
    return np.zeros(node_space(config).n_nodes, dtype=np.uint8)


def random_masks(config, n: int, seed: int, share: float = 0.1) -> list[Mask]:
    rng = np.random.default_rng(seed)
    n_nodes = node_space(config).n_nodes
    codes = rng.integers(1, 4, (n, n_nodes)) * (rng.random((n, n_nodes)) < share)
    return [Mask(row.astype(np.uint8)) for row in codes]


def all_scores(sweep: Sweep, masks: list[Mask]) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [scores for scores in sweep.run(masks) if scores is not None]
    answered = torch.cat([part.answered for part in parts if part.answered is not None])
    return torch.cat([part.losses for part in parts]), answered


def last_answers(weights, prompts, plan_interventions) -> torch.Tensor:
    """Answer logits by a plain forward with plain interventions: the independent computation."""
    run = forward(
        weights,
        prompts.tokens,
        Plan(interventions=plan_interventions, logits="all", lengths=prompts.lengths),
    )
    assert run.logits is not None
    rows = torch.arange(len(prompts.tokens))
    return run.logits[rows, prompts.lengths - 1].gather(1, prompts.answers)


def test_zero_and_mean_ablation_of_a_node_equal_plain_interventions(
    config, weights, prompts, means
):
    space = node_space(config)
    for site, channel in (("0.attn.act_in", 3), ("1.mlp.post_act", 17), ("final_resid", 2)):
        node = int(space.nodes(site, [channel])[0])
        codes = {}
        for code in (ZERO, MEAN):
            codes[code] = blank(config)
            codes[code][node] = code
        sweep = Sweep(weights, prompts, Mask(blank(config)), means)
        sweep.score_base()
        _, answered = all_scores(sweep, [Mask(codes[ZERO]), Mask(codes[MEAN])])
        zeroed = last_answers(weights, prompts, (Zero(site, channels=(channel,)),))
        meaned = last_answers(
            weights, prompts, (Mean(site, means[space.span(site)], channels=(channel,)),)
        )
        torch.testing.assert_close(answered[0], zeroed)
        torch.testing.assert_close(answered[1], meaned)


def test_loss_and_accuracy_are_two_token_scores_averaged_over_rows(config, weights, prompts):
    scores = Sweep(weights, prompts, Mask(blank(config))).score_base()
    answered = last_answers(weights, prompts, ())
    log_probability = answered.log_softmax(-1)[:, 0]
    torch.testing.assert_close(scores.losses, -log_probability.mean()[None])
    assert scores.accuracies is not None
    right = (answered[:, 0] > answered[:, 1]).float().mean()
    torch.testing.assert_close(scores.accuracies, right[None])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 40))
def test_masks_in_one_batch_equal_masks_one_by_one(config, weights, prompts, means, seed, rows):
    masks = random_masks(config, 4, seed)
    base = random_masks(config, 1, seed + 1)[0]
    together = Sweep(weights, prompts, base, means, rows_per_step=rows)
    together.score_base()
    losses, answered = all_scores(together, masks)
    for i, mask in enumerate(masks):
        alone = Sweep(weights, prompts, mask, means).score_base()
        torch.testing.assert_close(losses[i : i + 1], alone.losses)
        torch.testing.assert_close(answered[i : i + 1], alone.answered)


def test_a_mask_costs_only_the_layers_from_its_first_difference_on(config, weights, prompts, means):
    space = node_space(config)
    codes = blank(config)
    codes[space.nodes("2.mlp.post_act", [1])] = MEAN
    sweep = Sweep(weights, prompts, Mask(blank(config)), means)
    sweep.score_base()
    list(sweep.run([Mask(codes)]))
    assert sweep.starts == {0: 1, 2: 1}


def test_resampling_takes_the_clean_value_of_another_prompt_aligned_at_the_end(
    config, weights, prompts
):
    space = node_space(config)
    site = "1.attn.v"
    codes = blank(config)
    codes[space.span(site)] = RESAMPLE
    sweep = Sweep(weights, prompts, Mask(codes), seed=5)
    scores = sweep.score_base()
    source = sweep._source_rows
    assert not bool((source == torch.arange(6)).any())
    clean = forward(
        weights, prompts.tokens, Plan(record=(Record(site),), lengths=prompts.lengths)
    ).records[site]
    values = torch.empty_like(clean)
    for row in range(6):
        shift = int(prompts.lengths[source[row]] - prompts.lengths[row])
        for position in range(9):
            at = min(max(position + shift, 0), 8)
            values[row, position] = clean[source[row], at]
    patched = last_answers(weights, prompts, (Patch(site, values),))
    assert scores.answered is not None
    torch.testing.assert_close(scores.answered[0], patched)


def edited(weights: Weights, source: str, cut: EdgeCut, fill: float) -> Weights:
    """The same weights with one entry zero and its constant flow moved into the bias."""
    name = {
        "q": "c_attn",
        "k": "c_attn",
        "v": "c_attn",
        "post_act": "c_fc",
        "attn.resid_delta": "attn_proj",
        "mlp.resid_delta": "mlp_proj",
    }
    layer_name, _, kind = cut.target.partition(".")
    field = name[kind] if kind in name else name[kind.rpartition(".")[2]]
    row = cut.target_channel
    if field == "c_attn":
        row += "qkv".index(kind[-1]) * weights.config.d_attn
    layer = weights.layers[int(layer_name)]
    matrix, bias = getattr(layer, field).clone(), getattr(layer, f"{field}_bias").clone()
    bias[row] += matrix[row, cut.source_channel] * fill
    matrix[row, cut.source_channel] = 0
    changed = dataclasses.replace(
        layer,
        matrices=layer.matrices._replace(**{field: WeightMatrix.of(matrix)}),
        **{f"{field}_bias": bias},
    )
    layers = list(weights.layers)
    layers[int(layer_name)] = changed
    return dataclasses.replace(weights, layers=tuple(layers))


def test_cutting_an_edge_equals_editing_its_weight(config, weights, prompts, means):
    space = node_space(config)
    everything = np.ones(space.n_nodes, dtype=bool)
    for edges in edges_between(weights, everything):
        cut = EdgeCut(
            edges.source,
            int(edges.source_channels[0]),
            edges.target,
            int(edges.target_channels[0]),
            ZERO,
        )
        sweep = Sweep(weights, prompts, Mask(blank(config)), means)
        sweep.score_base()
        masks = [Mask(blank(config), (cut,))]
        is_from_v = edges.source.endswith("attn.v")
        if not is_from_v:  # a constant out of v also passes through the pattern's sum
            masks.append(Mask(blank(config), (dataclasses.replace(cut, code=MEAN),)))
        _, answered = all_scores(sweep, masks)
        mean = float(means[space.nodes(cut.source, [cut.source_channel])])
        fills = [0.0] if is_from_v else [0.0, mean]
        for i, fill in enumerate(fills):
            other = edited(weights, edges.source, cut, fill)
            torch.testing.assert_close(answered[i], last_answers(other, prompts, ()))


def test_cutting_every_edge_out_of_a_node_equals_ablating_it(config, weights, prompts, means):
    """Of an MLP channel: all it does goes through the weights that are cut."""
    space = node_space(config)
    everything = np.ones(space.n_nodes, dtype=bool)
    for site, kind in (("1.mlp.post_act", "mean"), ("1.attn.v", "resample")):
        edges = next(e for e in edges_between(weights, everything) if e.source == site)
        channel = int(edges.source_channels[0])
        targets = edges.target_channels[edges.source_channels == channel]
        cuts = tuple(EdgeCut(site, channel, edges.target, int(t), CODES[kind]) for t in targets)
        codes = blank(config)
        codes[space.nodes(site, [channel])] = CODES[kind]
        sweep = Sweep(weights, prompts, Mask(blank(config)), means)
        sweep.score_base()
        _, answered = all_scores(sweep, [Mask(blank(config), cuts), Mask(codes)])
        torch.testing.assert_close(answered[0], answered[1])


def test_scores_over_targets_are_mean_cross_entropies(config, weights, prompts):
    targets = prompts.tokens.roll(-1, 1)
    targets[torch.arange(9)[None] >= prompts.lengths[:, None] - 1] = -1
    scored = ScoredPrompts(prompts.tokens, prompts.lengths, targets=targets)
    for rows in (64, 1):  # all rows in one step, and row by row
        sweep = Sweep(weights, scored, Mask(blank(config)), rows_per_step=rows)
        expected = forward(
            weights, prompts.tokens, Plan(targets=targets, lengths=prompts.lengths)
        ).loss
        torch.testing.assert_close(sweep.score_base().losses[0], expected)


def test_the_papers_quote_circuit_has_twelve_nodes_and_nine_edges():
    """FACTS 1: the counting rule's own check, on a network with just these weights."""
    from circuitd.engine.config import GPTConfig
    from circuitd.engine.weights import expected_shapes

    config = GPTConfig(
        block_size=4,
        vocab_size=8,
        n_layer=11,
        n_head=83,
        d_head=2,
        d_model=1024,
        d_mlp=2800,
        rms_norm=True,
        tied_unembed=False,
        bias=False,
    )
    state = {name: torch.zeros(shape) for name, shape in expected_shapes(config).items()}
    q, k, v = (82 * 2 + 1, 82 * 2 + 1, 82 * 2)
    d_attn = config.d_attn
    for target, source in ((2790, 205), (2790, 207), (863, 205), (863, 207)):
        state["transformer.h.0.mlp.c_fc.weight"][target, source] = 1
    for target, source in ((985, 2790), (460, 863)):
        state["transformer.h.0.mlp.c_proj.weight"][target, source] = 1
    state["transformer.h.10.attn.c_attn.weight"][d_attn + k, 985] = 1
    state["transformer.h.10.attn.c_attn.weight"][2 * d_attn + v, 460] = 1
    state["transformer.h.10.attn.c_proj.weight"][83, v] = 1
    state["transformer.h.10.mlp.c_fc.weight"][5, 985] = 1  # to no retained node: not counted
    weights = Weights.from_state(config, state)
    kept = node_space(config).mask(
        [
            ("0.mlp.act_in", [205, 207]),
            ("0.mlp.post_act", [2790, 863]),
            ("0.mlp.resid_delta", [985, 460]),
            ("10.attn.act_in", [985, 460]),
            ("10.attn.q", [q]),
            ("10.attn.k", [k]),
            ("10.attn.v", [v]),
            ("10.attn.resid_delta", [83]),
        ]
    )
    assert kept.sum() == 12
    assert sum(len(edges) for edges in edges_between(weights, kept)) == 9


def test_edge_matrices_are_the_models_own_weights(config, weights):
    matrices = list(edge_matrices(weights))
    assert len(matrices) == 6 * config.n_layer
    for matrix in matrices:
        space = node_space(config)
        shape = (len(matrix.rows), matrix.weight.shape[1])
        assert shape == (space.width(matrix.target), space.width(matrix.source))


def test_codes_name_every_kind():
    assert KEEP not in CODES.values()
    assert set(CODES) == {"zero", "mean", "resample"}

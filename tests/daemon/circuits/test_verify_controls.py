"""Each control's numbers against a computation of another kind."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol.circuits import Calibration, Measurement, PruneSettings, VerifySettings
from circuitd.circuits.ablate import CODES, KEEP, Mask, Sweep
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Outcome, Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.verify import CONTROLS, WEIGHTS, Trial, distinct_pairs
from circuitd.circuits.verify.bootstrap import Bootstrap, pair_losses
from circuitd.circuits.verify.draws import of_equal_size
from circuitd.circuits.verify.nulls import permuted, shuffled
from circuitd.circuits.verify.seeds import jaccard
from circuitd.circuits.verify.thresholds import CHANCE, retained
from circuitd.circuits.verify.trial import part_of
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan, Record
from circuitd.engine.steps import finish
from circuitd.engine.weights import Weights

N_PAIRS = 10


def known_to(weights: Weights, given: ScoredPrompts) -> ScoredPrompts:
    """The same prompts with the answer that the model gives for the right one."""
    assert given.answers is not None
    logits = forward(weights, given.tokens, Plan(logits="last", lengths=given.lengths)).logits
    assert logits is not None
    first, second = logits.gather(1, given.answers).T
    right = torch.where((first > second)[:, None], given.answers, given.answers.flip(1))
    return dataclasses.replace(given, answers=right)


def prompts(seed: int, n_pairs: int = N_PAIRS) -> ScoredPrompts:
    draw = torch.Generator().manual_seed(seed)
    n = 2 * n_pairs
    lengths = torch.randint(4, 12, (n,), generator=draw)
    tokens = torch.randint(48, (n, 12), generator=draw)
    tokens[torch.arange(12) >= lengths[:, None]] = 0
    answers = torch.tensor([[5, 9]] * n_pairs + [[9, 5]] * n_pairs)
    return ScoredPrompts(tokens, lengths, answers)


@pytest.fixture(scope="module")
def trial(weights) -> Trial:
    space, rng = node_space(weights.config), np.random.default_rng(0)
    means = torch.from_numpy(rng.normal(0, 0.3, space.n_nodes)).float()
    train, held_out = known_to(weights, prompts(1)), known_to(weights, prompts(2))
    problem = Problem(Gated(weights, means, sparse=False), train, train, held_out, "mean")
    return Trial(
        problem=problem,
        kept=rng.random(space.n_nodes) < 0.5,
        cut_edges=(),
        calibration=None,
        target_loss=None,
        seed=0,
        settings=VerifySettings(n_bootstrap=50, n_random_circuits=4, n_random_subsets=4, n_seeds=1),
        prune=PruneSettings(n_steps=2, n_pairs_per_step=4),
        means=means,
        text=torch.randint(48, (4, 12), generator=torch.Generator().manual_seed(0)),
    )


def swept_loss(trial: Trial, codes: np.ndarray, on: ScoredPrompts) -> float:
    problem = trial.problem
    sweep = Sweep(
        problem.gated.weights, on, Mask(codes.astype(np.uint8)), trial.means, problem.resample_seed
    )
    return float(sweep.score_base().losses[0])


def numbers(control) -> dict[str, Measurement]:
    return {measurement.name: measurement for measurement in control.measurements}


def near(value: float):
    return pytest.approx(value, abs=2e-5)


def test_every_control_has_a_weight_and_keeps_its_name(trial):
    assert set(CONTROLS) == set(WEIGHTS)
    for name in ("held_out", "faithfulness", "frozen_norm"):
        assert finish(CONTROLS[name](trial)).name == name


def test_held_out_measures_circuit_and_model_on_both_splits(trial):
    found = numbers(finish(CONTROLS["held_out"](trial)))
    nothing = np.zeros(len(trial.kept))
    rest = np.where(trial.kept, KEEP, CODES["mean"])
    train, unseen = trial.problem.train, trial.problem.held_out
    assert found["training loss"].value == near(swept_loss(trial, rest, train))
    assert found["held-out loss"].value == near(swept_loss(trial, rest, unseen))
    assert found["whole model, training loss"].value == near(swept_loss(trial, nothing, train))
    assert found["whole model, held-out loss"].value == near(swept_loss(trial, nothing, unseen))


def test_necessity_ablates_only_the_circuit(trial):
    found = numbers(finish(CONTROLS["necessity"](trial)))
    expected = swept_loss(trial, np.where(trial.kept, CODES["mean"], KEEP), trial.problem.train)
    assert found["loss without the circuit"].value == near(expected)


def test_ablation_kinds_are_those_of_a_sweep(trial):
    found = numbers(finish(CONTROLS["ablation_kinds"](trial)))
    names = {"mean": "its mean", "zero": "zero", "resample": "other prompts' values"}
    for kind, name in names.items():
        codes = np.where(trial.kept, KEEP, CODES[kind])
        expected = swept_loss(trial, codes, trial.problem.train)
        assert found[f"loss, rest at {name}"].value == near(expected), kind


def test_without_means_the_kinds_are_the_other_two(trial):
    gated = trial.problem.gated.holding(torch.zeros(len(trial.kept)))
    problem = dataclasses.replace(trial.problem, gated=gated, ablation="zero")
    without = dataclasses.replace(trial, problem=problem, means=None, _known={})
    names = numbers(finish(CONTROLS["ablation_kinds"](without)))
    assert "loss, rest at zero" in names
    assert "loss, rest at its mean" not in names


def test_frozen_scales_of_an_empty_circuit_are_the_whole_models(trial):
    """With every node ablated only the final norm's scale still depends on the prompt."""
    weights, few = trial.problem.gated.weights, trial.few()
    empty = dataclasses.replace(trial, kept=np.zeros_like(trial.kept), _known={})
    found = numbers(finish(CONTROLS["frozen_norm"](empty)))
    plan = Plan(record=(Record("final_norm_scale"),), lengths=few.lengths)
    scale = forward(weights, few.tokens, plan).records["final_norm_scale"]
    last = scale[torch.arange(len(few)), few.lengths - 1]
    final = trial.means[node_space(weights.config).span("final_resid")]
    logits = (final * last * weights.ln_f.gain) @ weights.lm_head.T
    if weights.final_logits_bias is not None:
        logits = logits + weights.final_logits_bias
    right, wrong = logits.gather(1, few.answers).T
    expected = torch.nn.functional.softplus(wrong - right).mean()
    assert found["loss, scales frozen"].value == near(float(expected))


def test_frozen_scales_change_nothing_of_the_whole_model(trial):
    whole = dataclasses.replace(trial, kept=np.ones_like(trial.kept), _known={})
    control = finish(CONTROLS["frozen_norm"](whole))
    found = numbers(control)
    assert found["loss, scales frozen"].value == near(found["loss, scales free"].value)


def test_faithfulness_is_the_area_under_the_recovered_logit_difference(trial):
    found = numbers(finish(CONTROLS["faithfulness"](trial)))
    n, k = len(trial.kept), int(trial.kept.sum())
    points = {0: 0.0, n: 1.0, k: found["faithfulness of the circuit"].value}
    for name, measurement in found.items():
        if name.startswith("faithfulness of ") and name.endswith(" nodes"):
            points[int(name.split()[2])] = measurement.value
    at = sorted(points)
    steps = list(pairwise(at))
    cpr = sum((b - a) / n * (points[a] + points[b]) / 2 for a, b in steps)
    cmd = sum((b - a) / n * (abs(1 - points[a]) + abs(1 - points[b])) / 2 for a, b in steps)
    assert found["CPR"].value == pytest.approx(cpr)
    assert found["CMD"].value == pytest.approx(cmd)

    def difference(codes: np.ndarray) -> float:
        mask = Mask(codes.astype(np.uint8))
        weights, train = trial.problem.gated.weights, trial.problem.train
        answered = Sweep(weights, train, mask, trial.means).score_base().answered[0]
        return float((answered[:, 0] - answered[:, 1]).mean())

    empty, whole = difference(np.full(n, CODES["mean"])), difference(np.zeros(n))
    own = difference(np.where(trial.kept, KEEP, CODES["mean"]))
    if whole > empty:
        assert points[k] == pytest.approx((own - empty) / (whole - empty), abs=1e-3)


def test_random_circuits_are_no_finding_among_themselves(trial):
    control = finish(CONTROLS["random_circuits"](trial))
    found = numbers(control)
    assert found["p"].value >= 1 / 5
    assert control.passed is not True


def test_a_random_half_of_nothing_left_changes_nothing(trial):
    whole = dataclasses.replace(trial, kept=np.ones_like(trial.kept), _known={})
    found = numbers(finish(CONTROLS["random_subsets"](whole)))
    expected = swept_loss(trial, np.zeros(len(trial.kept)), trial.problem.train)
    assert found["mean loss"].value == near(expected)
    assert found["draws that keep the task"].value == 1


def test_a_calibrated_circuit_is_measured_calibrated(trial):
    calibration = Calibration(scale=2.0, bias=0.3)
    outcome = Outcome(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    calibrated = dataclasses.replace(trial, calibration=calibration).calibrated(outcome)
    assert calibrated.differences.tolist() == pytest.approx([2.3, -3.7, 0.7, 5.7])


@pytest.mark.parametrize("name", ["shuffled_labels", "random_weights", "seeds"])
def test_fresh_runs_report_their_shares_of_the_work(trial, name):
    shares = [share for share in CONTROLS[name](trial) if share is not None]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1


def test_random_weights_need_text_for_their_means(trial):
    control = finish(CONTROLS["random_weights"](dataclasses.replace(trial, text=None)))
    assert control.passed is None
    assert "text" in control.sentence


def test_controls_are_functions_of_the_seed(trial):
    for name in ("random_circuits", "shuffled_labels"):
        first = finish(CONTROLS[name](dataclasses.replace(trial, _known={})))
        assert finish(CONTROLS[name](dataclasses.replace(trial, _known={}))) == first


# ------------------------------------------------------------------------------------- pieces


def test_intervals_over_pairs_are_the_normal_theorys():
    rng = np.random.default_rng(0)
    outcome = Outcome(torch.from_numpy(rng.normal(1, 2, 800)))
    losses = pair_losses(outcome)
    measured = Bootstrap(4000, 0).loss("loss", outcome)
    half = 1.96 * losses.std() / math.sqrt(len(losses))
    assert measured.value == pytest.approx(float(outcome.losses.mean()))
    assert measured.interval is not None
    assert measured.interval.high - measured.value == pytest.approx(half, rel=0.1)
    assert measured.value - measured.interval.low == pytest.approx(half, rel=0.1)


def test_the_two_sides_of_a_pair_are_resampled_together():
    """Sides that cancel leave no spread, as no resampling of whole pairs can separate them."""
    side = torch.linspace(-3, 3, 50).double()
    losses = torch.nn.functional.softplus(-side)
    other = -torch.log(torch.expm1(2.0 + 4 - losses))  # pair means are all (2 + 4) / 2
    measured = Bootstrap(100, 0).loss("loss", Outcome(torch.cat([side, other])))
    assert measured.interval is not None
    assert measured.interval.low == pytest.approx(3.0)
    assert measured.interval.high == pytest.approx(3.0)


def test_retained_share_is_one_for_the_model_and_zero_at_chance():
    whole, chance = Outcome(torch.full((8,), 3.0)), Outcome(torch.zeros(8))
    bootstrap = Bootstrap(20, 0)
    assert bootstrap.retained("share", whole, whole).value == pytest.approx(1)
    assert bootstrap.retained("share", whole, chance).value == pytest.approx(0)
    assert retained(2 * CHANCE, 0.0) == pytest.approx(-1)


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_draws_have_as_many_nodes_of_each_site(config, seed, share):
    space, rng = node_space(config), np.random.default_rng(seed)
    kept = rng.random(space.n_nodes) < share
    among = rng.random(space.n_nodes) < 0.7
    drawn = of_equal_size(space, kept, among, rng)
    assert not (drawn & ~among).any()
    for site in space.sites:
        span = space.span(site.name)
        assert drawn[span].sum() == min(kept[span].sum(), among[span].sum())


def test_shuffled_labels_hang_on_the_prompt_alone():
    batch = prompts(3, n_pairs=200)
    swapped = (shuffled(batch, 0).answers != batch.answers).any(1)
    assert 0.4 < float(swapped.float().mean()) < 0.6
    wider = dataclasses.replace(batch, tokens=torch.nn.functional.pad(batch.tokens, (0, 5)))
    assert torch.equal((shuffled(wider, 0).answers != batch.answers).any(1), swapped)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    reordered = shuffled(batch.rows(order), 0)
    assert torch.equal((reordered.answers != batch.answers[order]).any(1), swapped[order])
    assert not torch.equal((shuffled(batch, 1).answers != batch.answers).any(1), swapped)


def test_permuted_weights_keep_values_and_nothing_else(weights):
    other = permuted(weights, 0)
    assert other.config == weights.config
    for before, after in zip(weights.layers, other.layers, strict=True):
        for name in ("c_attn", "attn_proj", "c_fc", "mlp_proj", "c_attn_bias", "sink_logit"):
            ours, theirs = getattr(before, name), getattr(after, name)
            assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
        assert not torch.equal(before.c_attn, after.c_attn)
        assert not torch.equal(before.ln_1.gain, after.ln_1.gain)
    assert torch.equal(permuted(weights, 0).lm_head, other.lm_head)
    assert not torch.equal(permuted(weights, 1).lm_head, other.lm_head)


def test_permuted_weights_stay_tied(weights):
    tied = permuted(dataclasses.replace(weights, lm_head=weights.wte), 0)
    assert tied.lm_head is tied.wte


@given(a=st.sets(st.integers(0, 9)), b=st.sets(st.integers(0, 9)))
def test_jaccard_is_that_of_sets(a, b):
    def mask(nodes: set[int]) -> np.ndarray:
        return np.isin(np.arange(10), list(nodes))

    expected = len(a & b) / len(a | b) if a | b else 1.0
    assert jaccard(mask(a), mask(b)) == pytest.approx(expected)


def test_pairs_that_come_again_count_once():
    once = prompts(4, n_pairs=6)
    twice = once.pairs(torch.tensor([0, 1, 2, 3, 4, 5, 2, 0]))
    assert distinct_pairs(once) is once
    again = distinct_pairs(twice)
    assert torch.equal(again.tokens, once.tokens[:, : again.tokens.shape[1]])
    assert torch.equal(again.answers, once.answers)


def test_shares_of_parts_are_shares_of_the_whole():
    def steps():
        yield 0.5
        yield None
        yield 1.0
        return "done"

    parts = part_of(steps(), 1, 2)
    assert list(parts) == [0.75, None, 1.0]

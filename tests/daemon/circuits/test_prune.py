"""Pruning learns gates as published, resumes to the same bits, and is cut where it should be."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from circuit_protocol.circuits import PruneSettings
from circuitd.circuits import calibrate, cut, rankings
from circuitd.circuits.errors import AnswersCoincide, TargetNotReached, TaskNotDone, TooManyNodes
from circuitd.circuits.find import Ranking, Target, check_answers, measure, rank
from circuitd.circuits.find import cut as cut_at
from circuitd.circuits.gated import Gated
from circuitd.circuits.gates import open_gates, surrogate_slope
from circuitd.circuits.problem import Outcome, Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.prune import Pruner
from circuitd.circuits.search import Search, Trial
from circuitd.engine.steps import finish

SETTINGS = PruneSettings(n_steps=12, n_pairs_per_step=4)


@pytest.fixture(scope="module")
def problem(weights) -> Problem:
    rng = np.random.default_rng(0)
    vocabulary = weights.config.vocab_size

    def draw() -> ScoredPrompts:
        tokens = torch.from_numpy(rng.integers(0, vocabulary, (16, 8)))
        lengths = torch.from_numpy(rng.integers(2, 9, 16))
        first, second = rng.permutation(vocabulary)[:2]
        answers = torch.tensor([[first, second]] * 8 + [[second, first]] * 8)
        return ScoredPrompts(tokens, lengths, answers)

    n_nodes = Gated(weights, torch.zeros(1), sparse=False).space.n_nodes
    ablated = torch.from_numpy(rng.standard_normal(n_nodes).astype(np.float32) / 4)
    gated = Gated(weights, ablated, sparse=False)
    return Problem(gated, draw(), draw(), draw(), "mean")


def test_gates_are_a_step_and_their_slope_is_the_sigmoids():
    tau = torch.tensor([-1.0, -1e-6, 0.0, 0.3, 1.0])
    assert open_gates(tau).tolist() == [0, 0, 1, 1, 1]
    assert open_gates(tau, open_at_zero=False).tolist() == [0, 0, 0, 1, 1]
    x = tau.double().requires_grad_()
    torch.sigmoid(x / 0.7).sum().backward()
    torch.testing.assert_close(surrogate_slope(tau.double(), 0.7), x.grad)


def test_the_gradient_of_a_gate_is_what_moving_it_does(problem):
    gates = torch.full((problem.space.n_nodes,), 0.7)
    found = finish(problem.gated.gradient(problem.train, gates))

    def loss(at: torch.Tensor) -> float:
        return Outcome(finish(problem.gated.differences(problem.train, at))).loss

    assert found.loss == pytest.approx(loss(gates), rel=1e-5)
    # Nodes that no AbsTopK follows: elsewhere a small move can jump to another selection.
    smooth = [problem.space.nodes(site) for site in ("2.mlp.post_act", "final_resid")]
    for node in np.concatenate([nodes[:4] for nodes in smooth]):
        step = torch.zeros_like(gates)
        step[node] = 1e-2
        moved = (loss(gates + step) - loss(gates - step)) / 2e-2
        assert moved == pytest.approx(float(found.gradient[node]), rel=0.1, abs=1e-4)


def test_a_step_follows_the_published_rule(problem):
    """One step against AdamW of PyTorch on the same gradient."""
    settings = replace(SETTINGS, lr_warm_up=0.0, clip_norm=0.01, lr=0.1)
    pruner = Pruner(problem.gated, problem.pool, settings, seed=3)
    tau = pruner.tau.clone().requires_grad_()
    optimiser = torch.optim.AdamW(
        [tau], lr=0.1, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay
    )
    generator = np.random.default_rng([3, sum(map(ord, "batch")), 0])
    chosen = torch.from_numpy(generator.choice(8, 4, replace=False))
    gates = (tau.detach() >= 0).float()
    found = finish(problem.gated.gradient(problem.pool.pairs(chosen), gates))
    s = torch.sigmoid(tau.detach())
    tau.grad = (found.gradient + settings.k_coef) * s * (1 - s)
    torch.nn.utils.clip_grad_norm_([tau], 0.01)
    optimiser.step()
    step = finish(pruner.advance())
    assert step.loss == pytest.approx(found.loss)
    assert step.k == int(gates.sum())
    torch.testing.assert_close(pruner.tau, tau.detach().clamp(-1, 1), rtol=1e-5, atol=1e-6)


def test_a_resumed_run_ends_in_the_same_bits(problem):
    settings = replace(SETTINGS, stochastic_rest=0.1)
    whole = Pruner(problem.gated, problem.pool, settings, seed=5)
    while not whole.is_done:
        finish(whole.advance())
    first = Pruner(problem.gated, problem.pool, settings, seed=5)
    for _ in range(7):
        finish(first.advance())
    next(first.advance())  # killed in the middle of a step
    second = Pruner(problem.gated, problem.pool, settings, seed=5)
    second.resume(first.state())
    while not second.is_done:
        finish(second.advance())
    assert torch.equal(second.tau, whole.tau)
    assert second.curve == whole.curve
    np.testing.assert_array_equal(second.ranking(), whole.ranking())


def test_seeds_differ_and_a_strong_penalty_closes_gates(problem):
    a, b = (Pruner(problem.gated, problem.pool, SETTINGS, seed) for seed in (0, 1))
    assert not torch.equal(a.tau, b.tau)
    pruner = Pruner(problem.gated, problem.pool, replace(SETTINGS, k_coef=10.0, lr=0.5), seed=0)
    n_at_first = pruner.n_open
    while not pruner.is_done:
        finish(pruner.advance())
    assert pruner.n_open < n_at_first / 4
    assert pruner.tau.abs().max() <= 1


def test_ties_at_the_clamp_are_ranked_by_the_mean_of_tau(problem):
    pruner = Pruner(problem.gated, problem.pool, SETTINGS, seed=0)
    pruner.tau[:] = -1.0
    pruner.tau[[3, 9]] = 1.0
    state = pruner.state()
    state["tail_sum"][9] = 2.0
    pruner.resume(state)
    assert pruner.ranking()[:2].tolist() == [9, 3]
    plain = Pruner(problem.gated, problem.pool, replace(SETTINGS, rank_by="tau"), seed=0)
    plain.resume(state)
    assert plain.ranking()[:2].tolist() == [3, 9]


def test_bisection_finds_a_k_that_just_reaches_the_target(problem):
    ranking = finish(rankings.attribution(problem))
    n_nodes = problem.space.n_nodes
    losses = [
        finish(problem.score(cut.first(ranking, k), problem.train)).loss for k in range(n_nodes + 1)
    ]
    target = (losses[0] + losses[-1]) / 2
    k = finish(cut.smallest_k(problem, ranking, target))
    if losses[0] <= target:
        assert k == 0
    else:
        assert losses[k] <= target < losses[k - 1]


def test_trimming_removes_only_what_the_target_does_not_need(problem):
    whole = np.ones(problem.space.n_nodes, bool)
    limit = finish(problem.score(whole, problem.train)).loss + 0.05
    kept = finish(cut.trim(problem, whole, limit))
    assert kept.sum() < whole.sum()
    assert finish(problem.score(kept, problem.train)).loss <= limit


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_edges_are_cut_only_while_the_target_holds(problem, ablation):
    ablated = problem.gated.ablated if ablation == "mean" else torch.zeros(problem.space.n_nodes)
    gated = Gated(problem.gated.weights, ablated, sparse=False)
    here = Problem(gated, problem.pool, problem.train, problem.held_out, ablation)
    ranking = Ranking(finish(rankings.attribution(problem)))
    k = problem.space.n_nodes // 4
    plain = finish(cut_at(here, ranking, Target(k=k), SETTINGS))
    fewer = finish(cut_at(here, ranking, Target(k=k), replace(SETTINGS, prune_edges=True)))
    assert plain.k == fewer.k == k
    assert fewer.n_edges == plain.n_edges - len(fewer.cut_edges)
    assert fewer.train.loss <= plain.train.loss + 1e-6


@pytest.mark.parametrize(
    "method", ["learned", "attribution", "integrated_gradients", "magnitude", "random"]
)
def test_every_ranking_is_a_permutation_that_its_seed_repeats(problem, method):
    a, b = (finish(rank(problem, method, SETTINGS, seed=4)).nodes for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.sort(a), np.arange(problem.space.n_nodes))


def test_calibration_fits_scale_and_bias_and_never_hurts():
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(64, generator=generator)
    d[:32] -= 1.5  # the second side's answer is favoured
    d = d + 0.8
    calibration = calibrate.fit(d)
    after = Outcome(calibrate.apply(d, calibration)).loss
    assert after < Outcome(d).loss - 0.05
    assert calibration.bias > 0
    nudged = [
        Outcome(
            calibrate.apply(
                d, replace(calibration, scale=calibration.scale + ds, bias=calibration.bias + db)
            )
        ).loss
        for ds, db in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05))
    ]
    assert after < min(nudged)


def test_what_cannot_be_done_is_refused_with_its_numbers(problem):
    ranking = Ranking(np.arange(problem.space.n_nodes))
    with pytest.raises(TaskNotDone, match="loss of"):
        finish(cut_at(problem, ranking, Target(loss=1e-9), SETTINGS))
    with pytest.raises(TooManyNodes, match=str(problem.space.n_nodes)):
        finish(cut_at(problem, ranking, Target(k=problem.space.n_nodes + 1), SETTINGS))
    with pytest.raises(TargetNotReached):
        finish(cut.smallest_k(problem, ranking.nodes, 1e-9))
    same = ScoredPrompts(
        torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 3]), torch.tensor([[1, 2], [5, 5]])
    )
    with pytest.raises(AnswersCoincide, match="row 1"):
        check_answers(same)


def test_measuring_a_node_set_gives_the_losses_of_both_splits(problem):
    kept = np.ones(problem.space.n_nodes, bool)
    found = finish(measure(problem, kept))
    for outcome, prompts in ((found.train, problem.train), (found.held_out, problem.held_out)):
        expected = finish(problem.score(kept, prompts))
        assert outcome.loss == pytest.approx(expected.loss)
    assert found.k == problem.space.n_nodes


def test_a_search_goes_on_from_its_history_as_if_it_had_not_stopped():
    def k_of(settings: PruneSettings) -> int:
        return round(1000 * settings.lr + 1e5 * settings.k_coef)

    def run(search: Search, n: int) -> Search:
        while len(search.trials) < n:
            settings = search.ask()
            failed = settings.lr > 0.05
            search.tell(Trial(settings, None if failed else k_of(settings), "too fast" * failed))
        return search

    whole = run(Search(PruneSettings(), 3), 14)
    resumed = run(Search(PruneSettings(), 3, run(Search(PruneSettings(), 3), 6).trials), 14)
    assert [trial.settings for trial in resumed.trials] == [t.settings for t in whole.trials]
    assert whole.trials[0].settings == PruneSettings()
    assert k_of(whole.best) <= k_of(PruneSettings())

"""Verification tells planted truth from nonsense, from a part of it, and from more than it."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from circuit_protocol.circuits import Control, ControlName, PruneSettings, VerifySettings
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Problem
from circuitd.circuits.verify import CONTROLS, Trial, judge
from circuitd.circuits.verify.fresh import prune_anew
from circuitd.circuits.verify.runs import FreshRun, fresh_runs
from circuitd.engine.steps import finish
from planted import nonsense_task, plant
from planted.network import scored


@functools.cache
def true_trial() -> Trial:
    planted = plant("marker", 1)
    train = scored(planted.train)
    gated = Gated(planted.weights, planted.means, sparse=False)
    return Trial(
        problem=Problem(gated, train, train, scored(planted.held_out), "mean"),
        kept=planted.mask,
        cut_edges=(),
        calibration=None,
        target_loss=0.15,
        seed=0,
        settings=VerifySettings(
            n_bootstrap=100, n_random_circuits=20, n_random_subsets=10, n_seeds=1
        ),
        prune=PruneSettings(n_steps=40),
        means=planted.means,
        text=planted.text,
    )


def changed(trial: Trial, kept: np.ndarray) -> Trial:
    return dataclasses.replace(trial, kept=kept, _known={})


def carried_out(trial: Trial, names=tuple(CONTROLS)) -> dict[ControlName, Control]:
    return {name: finish(CONTROLS[name](trial)) for name in names}


def test_the_planted_circuit_is_supported():
    found = carried_out(true_trial())
    judgement = judge(list(found.values()))
    assert judgement.verdict == "supported", judgement
    assert found["necessity"].passed
    assert found["faithfulness"].measurements[0].value == pytest.approx(1, abs=0.1)


def test_a_circuit_that_lacks_a_node_is_not_supported():
    true = true_trial()
    for node in np.flatnonzero(true.kept)[::4]:
        kept = true.kept.copy()
        kept[node] = False
        control = finish(CONTROLS["held_out"](changed(true, kept)))
        assert control.passed is False
        assert judge([control]).verdict == "not supported"


def test_a_circuit_with_many_random_nodes_too_many_is_told():
    true, rng = true_trial(), np.random.default_rng(0)
    kept = true.kept.copy()
    kept[rng.choice(np.flatnonzero(~kept), 40, replace=False)] = True
    control = finish(CONTROLS["necessity"](changed(true, kept)))
    assert control.passed is None
    assert "40 of the 53 nodes can go" in control.sentence
    assert "which nodes" in judge([control]).depends_on[0]


def test_random_nodes_are_not_supported():
    true, rng = true_trial(), np.random.default_rng(1)
    kept = np.zeros_like(true.kept)
    kept[rng.choice(len(kept), int(true.kept.sum()), replace=False)] = True
    found = carried_out(changed(true, kept), ("held_out", "necessity", "random_circuits"))
    assert judge(list(found.values())).verdict == "not supported"
    assert all(control.passed is False for control in found.values())


def nonsense_on(problem: Problem, n_pairs: int, **changes) -> Trial:
    """The best that gates could learn of pairs without a rule, as a circuit on trial."""
    vocab_size = problem.gated.weights.config.vocab_size
    few, unseen = (
        scored(nonsense_task(vocab_size, n_pairs, 12, seed=3, split=split))
        for split in ("train", "held_out")
    )
    asked = dataclasses.replace(problem, pool=few, train=few, held_out=unseen)
    settings = PruneSettings(n_steps=100, n_pairs_per_step=n_pairs, k_coef=1e-5, lr=3e-2)
    best = finish(prune_anew(asked, settings, 0, 0.0)).best_loss
    limit = 1.2 * best
    attempt = finish(prune_anew(asked, settings, 0, limit))
    assert attempt.kept is not None
    return dataclasses.replace(
        true_trial(), problem=asked, kept=attempt.kept, target_loss=limit, prune=settings,
        _known={}, **changes,
    )  # fmt: skip


def test_what_was_found_for_nonsense_in_a_planted_network_is_not_supported():
    found = carried_out(nonsense_on(true_trial().problem, 12), ("held_out", "necessity"))
    assert judge(list(found.values())).verdict == "not supported"
    assert found["held_out"].passed is False


def test_nulls_see_through_gates_that_have_learned_nonsense_by_heart(weights):
    """In a random network gates can fit any few prompts: then others, and other weights, do too."""
    means = torch.zeros(node_space(weights.config).n_nodes)
    gated = Gated(weights, means, sparse=False)
    draw = torch.Generator().manual_seed(0)
    text = torch.randint(weights.config.vocab_size, (8, 12), generator=draw)
    true = dataclasses.replace(true_trial().problem, gated=gated)
    trial = nonsense_on(true, 5, means=means, text=text)
    found = carried_out(trial, ("held_out", "shuffled_labels", "random_weights"))
    assert judge(list(found.values())).verdict == "not supported"
    assert found["shuffled_labels"].passed is False


def test_fresh_pruning_finds_the_planted_circuit_or_says_how_far_it_came():
    true = true_trial()
    found = finish(prune_anew(true.problem, true.prune, 5, 0.15))
    assert found.kept is not None
    np.testing.assert_array_equal(found.kept, true.kept)
    nothing = finish(prune_anew(true.problem, true.prune, 5, 1e-9))
    assert nothing.kept is None
    assert nothing.k is None
    assert 0 < nothing.best_loss < 0.15


def test_a_model_that_cannot_do_the_task_has_no_circuit_for_it():
    true = true_trial()
    train = true.problem.train
    assert train.answers is not None
    flipped = dataclasses.replace(train, answers=train.answers.flip(1))
    problem = dataclasses.replace(true.problem, train=flipped)
    control = finish(CONTROLS["held_out"](dataclasses.replace(true, problem=problem, _known={})))
    assert control.passed is False
    assert "does not do the task" in control.sentence


def test_what_a_broken_circuit_lives_on_is_not_asked():
    true = true_trial()
    control = finish(CONTROLS["frozen_norm"](changed(true, np.zeros_like(true.kept))))
    assert control.passed is None


def test_a_remembered_run_gives_the_attempt_of_a_run_made_anew_at_any_limit():
    true, run = true_trial(), FreshRun()
    for limit in (0.15, 0.4, 1e-9):
        known = finish(prune_anew(true.problem, true.prune, 5, limit, run))
        anew = finish(prune_anew(true.problem, true.prune, 5, limit))
        assert (known.k, known.n_edges, known.best_loss) == (anew.k, anew.n_edges, anew.best_loss)


def test_trials_share_runs_only_on_the_same_grounds_with_the_same_settings():
    runs = fresh_runs()
    one = dataclasses.replace(true_trial(), runs=runs, grounds="a")
    assert one.run("seeds", 1) is one.run("seeds", 1)
    others = (
        dataclasses.replace(one, grounds="b"),
        dataclasses.replace(one, prune=PruneSettings(n_steps=41)),
    )
    found = [one.run("seeds", 1), one.run("seeds", 2), *(t.run("seeds", 1) for t in others)]
    assert len({id(run) for run in found}) == len(found)

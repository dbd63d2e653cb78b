"""Each way of finding circuits, held against the nodes that compiled programs are known to need."""

from typing import get_args

import numpy as np
import pytest
import torch

from circuit_protocol.circuits import Method, PruneSettings
from circuitd.circuits.find import Target, cut, rank
from circuitd.circuits.gated import Gated
from circuitd.circuits.means import pretraining_means
from circuitd.circuits.problem import Ablation, Problem
from circuitd.engine.steps import finish
from compiled import PROGRAMS, TARGET_LOSS, compiled
from planted.network import scored

#: Few steps do: these networks' attention is so sharp that the gates of queries and keys get no
#: gradient, close early and stay closed. It is the trim that then finds the exact circuit.
UNTRIMMED = PruneSettings(n_steps=40)
TRIMMED = PruneSettings(n_steps=40, greedy=True)
CASES = [(program, ablation) for program in PROGRAMS for ablation in ("mean", "zero")]


def problem(program: str, ablation: Ablation) -> Problem:
    network = compiled(program)
    means = torch.cat(list(pretraining_means(network.weights, [network.inputs]).values()))
    gated = Gated(network.weights, torch.zeros_like(means) if ablation == "zero" else means)
    prompts = {split: scored(batch) for split, batch in network.tasks.items()}
    return Problem(gated, prompts["train"], prompts["train"], prompts["held_out"], ablation)


def precision_and_recall(
    program: str, ablation: Ablation, method: Method, settings: PruneSettings, seed: int = 0
) -> tuple[float, float]:
    """Of the smallest circuit that the method's ranking gives at the target loss."""
    asked = problem(program, ablation)
    ranking = finish(rank(asked, method, settings, seed))
    kept = finish(cut(asked, ranking, Target(loss=TARGET_LOSS), settings)).kept
    needed = compiled(program).truth(ablation)
    n_right = int((kept & needed).sum())
    return n_right / int(kept.sum()), n_right / int(needed.sum())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("program", "ablation"), CASES)
def test_learned_and_trimmed_circuits_are_exactly_the_needed_nodes(program, ablation, seed):
    found = precision_and_recall(program, ablation, "learned", TRIMMED, seed)
    assert found == (1.0, 1.0)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize(("program", "ablation"), CASES)
def test_every_ranking_trims_to_the_same_circuit(program, ablation, method):
    assert precision_and_recall(program, ablation, method, TRIMMED) == (1.0, 1.0)


@pytest.mark.parametrize(("program", "ablation"), CASES)
def test_untrimmed_rankings_miss_no_needed_node_and_differ_in_what_they_add(program, ablation):
    """No node can be spared, so a circuit that reaches the target has them all."""
    precision = {}
    for method in ("integrated_gradients", "attribution", "magnitude", "random"):
        precision[method], recall = precision_and_recall(program, ablation, method, UNTRIMMED)
        assert recall == 1.0
    assert precision["integrated_gradients"] > 0.9
    assert precision["magnitude"] < 0.5
    assert precision["random"] == min(precision.values())


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_found_does_the_task_on_inputs_it_was_not_found_on(program):
    asked = problem(program, "mean")
    ranking = finish(rank(asked, "learned", TRIMMED, 0))
    found = finish(cut(asked, ranking, Target(loss=TARGET_LOSS), TRIMMED))
    assert found.held_out.loss <= TARGET_LOSS
    assert found.held_out.accuracy == 1.0
    assert np.isclose(found.train.loss, found.held_out.loss, atol=0.01)

"""Pruning a planted network gives back the planted circuit: the exact nodes, the exact edges."""

import functools

import numpy as np
import pytest

from circuit_protocol.circuits import PruneSettings
from circuitd.circuits.errors import TaskNotDone
from circuitd.circuits.find import Found, Ranking, Target, cut, rank
from circuitd.circuits.gated import Gated
from circuitd.circuits.problem import Ablation, Problem
from circuitd.engine.steps import finish
from planted import SHAPES, Edge, Planted, nonsense_task, plant, shuffled_labels
from planted.network import scored

#: The published algorithm with its defaults but for fewer steps, which suffice at this size.
PLAIN = PruneSettings(n_steps=40)
WITH_EDGES = PruneSettings(n_steps=40, prune_edges=True)
TARGET_LOSSES = (0.05, 0.15)


@functools.cache
def planted(shape: str, seed: int) -> Planted:
    return plant(shape, seed)


def problem(network: Planted, train=None, ablation: Ablation = "mean") -> Problem:
    prompts = scored(network.train if train is None else train)
    ablated = network.means if ablation == "mean" else network.means * 0
    gated = Gated(network.weights, ablated)
    return Problem(gated, prompts, prompts, scored(network.held_out), ablation)


def edges_left(network: Planted, found: Found) -> set[Edge]:
    cut_away = {
        Edge(edge.source, edge.source_channel, edge.target, edge.target_channel)
        for edge in found.cut_edges
    }
    assert cut_away <= network.edges
    return set(network.edges) - cut_away


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", SHAPES)
def test_pruning_finds_exactly_the_planted_nodes_and_edges(shape, seed):
    network = planted(shape, seed)
    asked = problem(network)
    ranking = finish(rank(asked, "learned", WITH_EDGES, seed))
    for target_loss in TARGET_LOSSES:
        found = finish(cut(asked, ranking, Target(loss=target_loss), WITH_EDGES))
        np.testing.assert_array_equal(found.kept, network.mask)
        assert edges_left(network, found) == network.causal_edges
        assert found.n_edges == len(network.causal_edges)
        assert found.train.loss <= target_loss
        assert found.held_out.loss <= target_loss


@pytest.mark.parametrize("prune_seed", range(1, 4))
def test_every_seed_of_pruning_finds_the_same(prune_seed):
    network = planted("topk", 0)
    asked = problem(network)
    ranking = finish(rank(asked, "learned", PLAIN, prune_seed))
    found = finish(cut(asked, ranking, Target(loss=0.05), PLAIN))
    np.testing.assert_array_equal(found.kept, network.mask)


def test_zero_ablation_finds_the_same():
    network = planted("marker", 0)
    asked = problem(network, ablation="zero")
    ranking = finish(rank(asked, "learned", PLAIN, 0))
    found = finish(cut(asked, ranking, Target(loss=0.05), PLAIN))
    np.testing.assert_array_equal(found.kept, network.mask)


def test_trimming_leaves_the_true_nodes_of_a_poor_ranking_that_has_them_all():
    network = planted("mlp", 1)
    asked = problem(network)
    last = np.flatnonzero(network.mask)[-1]
    others = np.flatnonzero(~network.mask)
    nodes = np.concatenate([np.flatnonzero(network.mask)[:-1], others[:200], [last], others[200:]])
    greedy = PruneSettings(greedy=True)
    untrimmed = finish(cut(asked, Ranking(nodes), Target(loss=0.05), PLAIN))
    trimmed = finish(cut(asked, Ranking(nodes), Target(loss=0.05), greedy))
    assert untrimmed.k == network.mask.sum() + 200
    np.testing.assert_array_equal(trimmed.kept, network.mask)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_nonsense_task_is_refused_as_the_whole_network_cannot_do_it(shape):
    network = planted(shape, 0)
    length = network.config.block_size
    for train in (
        shuffled_labels(network.train, seed=0),
        nonsense_task(network.config.vocab_size, 32, length, seed=0),
    ):
        ranking = Ranking(np.arange(len(network.mask)))
        with pytest.raises(TaskNotDone):
            finish(cut(problem(network, train), ranking, Target(loss=0.15), PLAIN))

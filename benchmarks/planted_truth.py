"""Planted circuits: how much of a known truth each ranking finds, and how much else.

The networks are those of the tests: a circuit written into the weights among random distractors, in
four shapes. Each ranking is cut where it reaches the target loss. Edges are cut only for learned
gates, and held against the edges without which the planted task fails.
"""

import sys
from pathlib import Path
from typing import Final, get_args

import numpy as np

from benchmarks.bench import Bench
from benchmarks.report import Goal, Table
from circuit_protocol.circuits import Method, PruneSettings
from circuitd.circuits.edges import edges_between
from circuitd.circuits.find import Found, Target, cut, rank
from circuitd.circuits.gated import Gated
from circuitd.circuits.problem import Problem
from circuitd.engine.steps import finish

# The planted networks belong to the tests, which are no part of the distribution.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from planted import SHAPES, Edge, Planted, plant
from planted.network import scored

TARGET_LOSS: Final = 0.05
N_SEEDS: Final = 2
SETTINGS: Final = PruneSettings(n_steps=40)
LEARNED: Final = "learned"
COLUMNS: Final = ("precision", "recall", "edge_precision", "edge_recall", "nodes_found_times")


def measure(bench: Bench) -> list[Table]:
    """One row per ranking."""
    n_seeds = N_SEEDS if bench.full else 1
    networks = [plant(shape, seed) for shape in SHAPES for seed in range(n_seeds)]
    table = Table(
        "planted",
        f"Circuits planted in {len(networks)} networks ({len(SHAPES)} shapes), cut at a loss of "
        f"{TARGET_LOSS:g}",
        COLUMNS,
        goals=tuple(Goal(LEARNED, column, 1.0, "at least") for column in COLUMNS[:4]),
        notes=["Means over the networks. Nodes found: as many times as were planted."],
    )
    for method in get_args(Method):
        scores = [_scored(network, method) for network in networks]
        table.add(method, **{c: float(np.mean([s[c] for s in scores])) for c in scores[0]})
    return [table]


def _scored(network: Planted, method: Method) -> dict[str, float]:
    settings = SETTINGS
    if method == LEARNED:
        settings = PruneSettings(n_steps=SETTINGS.n_steps, prune_edges=True)
    train = scored(network.train)
    gated = Gated(network.weights, network.means)
    problem = Problem(gated, train, train, scored(network.held_out), "mean")
    ranking = finish(rank(problem, method, settings, 0))
    found = finish(cut(problem, ranking, Target(loss=TARGET_LOSS), settings))
    n_right = int((found.kept & network.mask).sum())
    n_true = int(network.mask.sum())
    shares = {
        "precision": n_right / found.k,
        "recall": n_right / n_true,
        "nodes_found_times": found.k / n_true,
    }
    if method == LEARNED:
        shares |= _edge_shares(network, found)
    return shares


def _edge_shares(network: Planted, found: Found) -> dict[str, float]:
    kept = {
        Edge(part.source, int(a), part.target, int(b))
        for part in edges_between(network.weights, found.kept)
        for a, b in zip(part.source_channels, part.target_channels, strict=True)
    }
    kept -= {Edge(e.source, e.source_channel, e.target, e.target_channel) for e in found.cut_edges}
    n_right = len(kept & network.causal_edges)
    return {
        "edge_precision": n_right / len(kept),
        "edge_recall": n_right / len(network.causal_edges),
    }

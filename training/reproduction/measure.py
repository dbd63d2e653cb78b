"""The four measurements, each a list of records of one task on one model.

Everything is what `circuit prune` and `circuit verify` do, called directly: no daemon, one thread,
and a score that several cuts of a ranking ask for is computed once.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch
from msgspec.structs import replace

from circuit_protocol.circuits import Method, PruneSettings
from circuitd.circuits.cut import first, halved
from circuitd.circuits.edges import edges_between
from circuitd.circuits.find import rank
from circuitd.circuits.gated import Gated
from circuitd.circuits.means import pretraining_means
from circuitd.circuits.problem import Outcome, Problem, Split
from circuitd.circuits.verify.draws import of_equal_size
from circuitd.circuits.verify.fresh import prune_anew
from circuitd.circuits.verify.nulls import N_WINDOWS, WINDOWS_PER_STEP, permuted, shuffled
from circuitd.engine.steps import Steps, finish
from training.reproduction.grounds import Subject, fitted, problem_of
from training.reproduction.records import Ablated, Cut, Given, Null, Record, Whole

#: The larger half of the paper's sweep of Fig. 2: our models' own losses leave no room below.
TARGET_LOSSES = (0.5, 0.35, 0.15)
#: The paper's.
TARGET_LOSS = 0.15
#: A task is done where the unpruned loss is at most this on both splits: the model card's mark,
#: which leaves room below the smallest target.
WELL_DONE_LOSS = 0.1
#: Every ranking is made for the same settings; `k_coef`, the price of a node, is tried at each of
#: `K_COEFS` where the twins are compared.
SETTINGS = PruneSettings()
K_COEFS = (1e-3, 3e-3)
SEED = 0
#: Draws of random nodes that are ablated instead of a circuit.
N_RANDOM = 10
#: Pairs that are few enough for nonsense to be learned by heart.
N_FITTED_PAIRS = 16
SPLITS: tuple[Split, ...] = ("train", "held_out")


class Sizes:
    """One ranking's outcome at every size that was asked for, on one split."""

    def __init__(self, problem: Problem, ranking: np.ndarray, split: Split) -> None:
        self.ranking = ranking
        self._problem, self._prompts = problem, problem.prompts(split)
        self._known: dict[int, Outcome] = {}

    def outcome(self, k: int) -> Outcome:
        """With the first `k` nodes of the ranking kept."""
        if k not in self._known:
            kept = first(self.ranking, k)
            self._known[k] = finish(self._problem.score(kept, self._prompts))
        return self._known[k]

    def smallest(self, target_loss: float) -> int | None:
        """The k that reaches the target while k - 1 does not, found as `circuits.cut` finds it;
        None where not even all nodes do.
        """

        def reaches(k: int) -> Steps[bool]:
            yield None
            return self.outcome(k).loss <= target_loss

        n_nodes = len(self.ranking)
        below, k = -1, 0
        while self.outcome(k).loss > target_loss:
            if k == n_nodes:
                return None
            below, k = k, min(max(16, 2 * k), n_nodes)
        return finish(halved(reaches, below, k))


def whole(subject: Subject, task: str) -> Whole:
    """The unpruned model on both splits. Raises TaskError."""
    problem = problem_of(subject, task)
    everything = np.ones(problem.space.n_nodes, bool)
    train, held_out = (finish(problem.score(everything, problem.prompts(s))).loss for s in SPLITS)
    return Whole(model=subject.name, task=task, loss=train, held_out_loss=held_out)


def learned(subject: Subject, task: str, k_coef: float, seed: int = SEED) -> list[Record]:
    """Learned masks cut at every target on both splits; with the default `k_coef` also the model
    without the circuit.
    """
    problem = problem_of(subject, task)
    settings = replace(SETTINGS, k_coef=k_coef)
    began = time.perf_counter()
    ranking = finish(rank(problem, "learned", settings, seed))
    seconds = time.perf_counter() - began
    cuts = _cuts(subject, task, problem, ranking.nodes, "learned", seed, k_coef, seconds)
    records: list[Record] = [*cuts]
    if k_coef == SETTINGS.k_coef:
        at_target = [c for c in cuts if (c.cut_on, c.target_loss) == ("train", TARGET_LOSS)]
        records += [_ablated(problem, ranking.nodes, c) for c in at_target if c.n_nodes is not None]
    return records


def ranked(subject: Subject, task: str, method: Method, seed: int = SEED) -> list[Record]:
    """Another ranking, cut at every target on both splits."""
    problem = problem_of(subject, task)
    began = time.perf_counter()
    ranking = finish(rank(problem, method, SETTINGS, seed))
    seconds = time.perf_counter() - began
    return [*_cuts(subject, task, problem, ranking.nodes, method, seed, None, seconds)]


def null(
    subject: Subject, task: str, given: Given, is_fitted: bool, seed: int = SEED
) -> list[Record]:
    """What a learned circuit needs where there is nothing to find (or, for comparison, where there
    is): the search that `circuit verify` gives its nulls, at the paper's target.
    """
    problem = problem_of(subject, task)
    if is_fitted:
        problem = fitted(problem, N_FITTED_PAIRS)
    if given == "shuffled labels":
        pool, train = shuffled(problem.pool, seed), shuffled(problem.train, seed)
        problem = dataclasses.replace(problem, pool=pool, train=train)
    elif given == "random weights":
        weights = permuted(subject.weights, seed)
        windows = subject.text[:N_WINDOWS].split(WINDOWS_PER_STEP)
        means = pretraining_means(weights, windows)
        ablated = torch.cat([means[site.name] for site in problem.space.sites])
        problem = dataclasses.replace(problem, gated=Gated(weights, ablated))
    found = finish(prune_anew(problem, SETTINGS, seed, TARGET_LOSS))
    record = Null(
        model=subject.name,
        task=task,
        given=given,
        seed=seed,
        is_fitted=is_fitted,
        n_pairs=len(problem.train) // 2,
        target_loss=TARGET_LOSS,
        n_nodes=found.k,
        n_edges=None if found.k is None else found.n_edges,
        least_loss=found.best_loss,
    )
    return [record]


def _cuts(
    subject: Subject,
    task: str,
    problem: Problem,
    ranking: np.ndarray,
    method: Method,
    seed: int,
    k_coef: float | None,
    seconds: float,
) -> list[Cut]:
    """`ranking` cut at every target on both splits, those cut on training pairs first."""
    sizes = {split: Sizes(problem, ranking, split) for split in SPLITS}
    records: list[Cut] = []
    for split in SPLITS:
        for target_loss in TARGET_LOSSES:
            k = sizes[split].smallest(target_loss)
            reached = k is not None
            kept = first(ranking, k or 0)
            edges = edges_between(subject.weights, kept)
            records.append(
                Cut(
                    model=subject.name,
                    task=task,
                    method=method,
                    seed=seed,
                    k_coef=k_coef,
                    cut_on=split,
                    target_loss=target_loss,
                    n_nodes=k,
                    n_edges=sum(len(part) for part in edges) if reached else None,
                    loss=sizes["train"].outcome(k).loss if reached else None,
                    held_out_loss=sizes["held_out"].outcome(k).loss if reached else None,
                    seconds=seconds,
                )
            )
    return records


def _ablated(problem: Problem, ranking: np.ndarray, cut: Cut) -> Ablated:
    """The model without the circuit of `cut`, which was cut on training pairs."""
    assert cut.n_nodes is not None  # a target that was not reached has no circuit

    def loss_without(nodes: np.ndarray) -> float:
        return finish(problem.score(~nodes, problem.train)).loss

    kept = first(ranking, cut.n_nodes)
    rng = np.random.default_rng([cut.seed, cut.n_nodes])
    others = [of_equal_size(problem.space, kept, ~kept, rng) for _ in range(N_RANDOM)]
    return Ablated(
        model=cut.model,
        task=cut.task,
        seed=cut.seed,
        target_loss=cut.target_loss,
        n_nodes=cut.n_nodes,
        whole_loss=loss_without(np.zeros_like(kept)),
        loss_without=loss_without(kept),
        losses_without_others=tuple(loss_without(nodes) for nodes in others),
    )

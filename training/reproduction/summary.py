"""What the records say together: edges by task and method, ratios, geometric means.

Sizes are compared as the paper compares them: geometric means over tasks. A circuit without edges
counts as having one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from circuit_protocol.circuits import Method
from circuitd.circuits.problem import Split
from training.reproduction.measure import K_COEFS, SETTINGS, TARGET_LOSS
from training.reproduction.plan import BY_GRADIENT, DENSE, OTHER_METHODS, SPARSE
from training.reproduction.records import Ablated, Cut, Given, Null, Record, Results, Whole

LEARNED: Final = "learned"
METHODS: tuple[Method, ...] = (LEARNED, *OTHER_METHODS)
R = TypeVar("R", bound=Record)
#: By task.
Edges = Mapping[str, int]


def geometric_mean(values: Iterable[float]) -> float:
    """exp(mean(log)); values below 1 count as 1. NaN of none."""
    logs = [math.log(max(1.0, value)) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def mean_ratio(of: Edges, to: Edges) -> float:
    """Geometric mean, over the tasks that both have, of `of` / `to`."""
    both = [task for task in of if task in to]
    return geometric_mean(of[t] for t in both) / geometric_mean(to[t] for t in both)


@dataclass(frozen=True)
class Summary:
    """Questions to a set of results."""

    results: Results

    def wholes(self, model: str) -> dict[str, Whole]:
        """The unpruned model by task."""
        found = self._of(Whole, lambda r: r.model == model)
        return {record.task: record for record in found}

    def edges(
        self, model: str, method: Method, target_loss: float, cut_on: Split, *, tuned: bool = False
    ) -> dict[str, int]:
        """Edges by task, sorted; learned masks with the default settings, or `tuned`: for each task
        and target the price of a node that gave the fewest edges.
        """
        default = SETTINGS.k_coef if method == "learned" else None
        cuts = self._of(
            Cut,
            lambda r: (
                (r.model, r.method, r.target_loss, r.cut_on) == (model, method, target_loss, cut_on)
                and (tuned or r.k_coef == default)
            ),
        )
        fewest: dict[str, int] = {}
        for cut in cuts:
            if cut.n_edges is not None:
                fewest[cut.task] = min(cut.n_edges, fewest.get(cut.task, cut.n_edges))
        return dict(sorted(fewest.items()))

    def twins(self, target_loss: float, cut_on: Split, *, tuned: bool) -> tuple[Edges, Edges]:
        """Edges of the sparse and of the dense twin, on the tasks that both have; `tuned` on those
        where both had every price tried.
        """
        sparse, dense = (
            self.edges(model, "learned", target_loss, cut_on, tuned=tuned)
            for model in (SPARSE, DENSE)
        )
        tried = Counter(
            cut.task
            for cut in self._of(Cut, lambda r: (r.target_loss, r.cut_on) == (target_loss, cut_on))
            if cut.method == "learned"
        )
        both = [task for task in sparse if task in dense]
        if tuned:
            both = [task for task in both if tried[task] == 2 * len(K_COEFS)]
        return {t: sparse[t] for t in both}, {t: dense[t] for t in both}

    def rankings(self, target_loss: float, cut_on: Split) -> dict[Method, Edges]:
        """Edges on the sparse twin by ranking, the learned one first, on the tasks that the learned
        one and those by gradient were measured on. A ranking that lacks one of them is left out.
        """
        edges: dict[Method, Edges] = {
            method: self.edges(SPARSE, method, target_loss, cut_on) for method in METHODS
        }
        tasks = set.intersection(*(set(edges[method]) for method in (LEARNED, *BY_GRADIENT)))
        return {m: _on(tasks, edges[m]) for m in METHODS if edges[m].keys() >= tasks}

    def best_other(self, target_loss: float, cut_on: Split) -> dict[str, int]:
        """By task, the fewest edges of any ranking but the learned one."""
        edges = self.rankings(target_loss, cut_on)
        others = [by_task for method, by_task in edges.items() if method != LEARNED]
        return {task: min((o[task] for o in others), default=0) for task in edges[LEARNED]}

    def ablated(self, target_loss: float = TARGET_LOSS) -> dict[str, Ablated]:
        """The sparse twin without its circuits, by task."""
        found = self._of(Ablated, lambda r: (r.model, r.target_loss) == (SPARSE, target_loss))
        return {record.task: record for record in sorted(found, key=lambda r: r.task)}

    def nulls(self, given: Given, *, is_fitted: bool) -> dict[str, Null]:
        """By task, what was `given` needs on the sparse twin."""
        found = self._of(Null, lambda r: (r.given, r.is_fitted) == (given, is_fitted))
        return {record.task: record for record in sorted(found, key=lambda r: r.task)}

    def _of(self, kind: type[R], wanted: Callable[[R], bool]) -> list[R]:
        return [r for r in self.results.records if isinstance(r, kind) and wanted(r)]


def _on(tasks: set[str], edges: Edges) -> Edges:
    return {task: n for task, n in edges.items() if task in tasks}

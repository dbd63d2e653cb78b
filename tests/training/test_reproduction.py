"""The reproduction page says what its results say; sizes are found and compared as it claims."""

from __future__ import annotations

import math
import re
from dataclasses import replace as replaced
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from training.reproduction import grounds, measure
from training.reproduction.figures import FIGURES, svg
from training.reproduction.page import FOLDER, PAGE, fill, write_or_check
from training.reproduction.plan import BY_GRADIENT, DENSE, SPARSE, done, units
from training.reproduction.records import (
    Conditions,
    Cut,
    Record,
    Results,
    Whole,
    read_records,
    read_results,
    write_records,
    write_results,
)
from training.reproduction.summary import Summary, geometric_mean, mean_ratio

from circuit_protocol.circuits import Method
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Problem, Split
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.config import GPTConfig
from circuitd.engine.weights import Weights, expected_shapes

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = read_results(DOCS / FOLDER / "results.json")


def cut(
    task: str,
    n_edges: int,
    *,
    model: str = SPARSE,
    method: Method = "learned",
    k_coef: float | None = measure.SETTINGS.k_coef,
    split: Split = "held_out",
) -> Cut:
    return Cut(
        model=model,
        task=task,
        method=method,
        seed=0,
        k_coef=k_coef if method == "learned" else None,
        cut_on=split,
        target_loss=measure.TARGET_LOSS,
        n_nodes=n_edges,
        n_edges=n_edges,
        loss=0.1,
        held_out_loss=0.1,
        seconds=1.0,
    )


def summary_of(*records: Record) -> Summary:
    return Summary(msgspec.structs.replace(RESULTS, records=records))


def test_page_and_figures_are_those_of_the_results() -> None:
    assert write_or_check(DOCS, RESULTS, check=True) == [], "python -m training.reproduction draw"


def test_a_changed_number_is_noticed() -> None:
    first = next(r for r in RESULTS.records if isinstance(r, Cut) and r.model == SPARSE)
    assert first.n_edges is not None
    other = msgspec.structs.replace(first, n_edges=first.n_edges + 1000)
    records = tuple(other if r is first else r for r in RESULTS.records)
    changed = msgspec.structs.replace(RESULTS, records=records)
    assert DOCS / PAGE in write_or_check(DOCS, changed, check=True)


def test_nothing_between_the_sections_names_a_number_of_ours() -> None:
    page = (DOCS / PAGE).read_text("utf-8")
    typed = re.sub(r"<!-- generated: (\w+) -->.*?<!-- end: \1 -->", "", page, flags=re.DOTALL)
    prose = re.sub(r"```.*?```|arXiv\s+[\d.]+|Figures [\d, and]+|k - 1|256 runs", "", typed)
    assert re.findall(r"\d[\d.,]*", prose.replace("ln 2", "")) == []


def test_page_without_a_marker_is_noticed() -> None:
    page = (DOCS / PAGE).read_text("utf-8")
    with pytest.raises(ValueError, match="claims"):
        fill(page.replace("<!-- generated: claims -->", ""), Summary(RESULTS))


def test_figures_are_small_and_the_same_twice() -> None:
    for drawing, size in FIGURES.values():
        drawn = svg(drawing, Summary(RESULTS), size)
        assert drawn == svg(drawing, Summary(RESULTS), size)
        assert len(drawn) < 100_000


def test_records_come_back_from_their_files(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", RESULTS)
    assert read_results(tmp_path / "results.json") == RESULTS
    write_records(tmp_path / "unit.json", RESULTS.records[:3])
    assert read_records(tmp_path / "unit.json") == RESULTS.records[:3]
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_every_unit_has_a_file_of_its_own() -> None:
    names = [unit.file_name for unit in units(["for_while", "var_if"])]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


def test_a_task_is_done_where_both_twins_do_it_on_both_splits() -> None:
    wholes = [
        Whole(model=model, task=task, loss=loss, held_out_loss=held_out)
        for task, model, loss, held_out in [
            ("good", SPARSE, 0.01, 0.1),
            ("good", DENSE, 0.1, 0.02),
            ("poor", SPARSE, 0.01, 0.02),
            ("poor", DENSE, 0.01, 0.2),
        ]
    ]
    assert done(wholes) == ["good"]


def test_ratios_are_geometric_and_over_tasks_that_both_have() -> None:
    assert geometric_mean([2, 8]) == pytest.approx(4)
    assert geometric_mean([0, 16]) == pytest.approx(4)  # no edges count as one
    assert math.isnan(geometric_mean([]))
    assert mean_ratio({"a": 40, "b": 90, "c": 1}, {"a": 10, "b": 10}) == pytest.approx(6)


def test_twins_are_tuned_on_tasks_with_every_price_for_both() -> None:
    all_prices = [
        cut("a", edges, model=model, k_coef=k_coef)
        for model, counts in ((SPARSE, (9, 5)), (DENSE, (90, 60)))
        for k_coef, edges in zip(measure.K_COEFS, counts, strict=True)
    ]
    only_default = [cut("b", 3), cut("b", 30, model=DENSE)]
    summary = summary_of(*all_prices, *only_default, cut("c", 2))
    assert summary.twins(measure.TARGET_LOSS, "held_out", tuned=True) == ({"a": 5}, {"a": 60})
    assert summary.twins(measure.TARGET_LOSS, "held_out", tuned=False) == (
        {"a": 9, "b": 3},
        {"a": 90, "b": 30},
    )


def test_rankings_are_compared_on_the_tasks_of_those_by_gradient() -> None:
    summary = summary_of(
        *(cut("a", 2), cut("b", 3), cut("c", 1)),
        *(cut("a", 10, method="attribution"), cut("b", 90, method="attribution")),
        *(cut("a", 40, method="integrated_gradients"), cut("b", 20, method="integrated_gradients")),
        cut("a", 1, method="magnitude"),  # not measured on b, so not compared
    )
    edges = summary.rankings(measure.TARGET_LOSS, "held_out")
    assert list(edges) == ["learned", *BY_GRADIENT]
    assert edges["learned"] == {"a": 2, "b": 3}
    assert summary.best_other(measure.TARGET_LOSS, "held_out") == {"a": 10, "b": 20}


def random_problem() -> Problem:
    config = GPTConfig(
        block_size=8, vocab_size=32, n_layer=2, n_head=2, d_head=4, d_model=8, d_mlp=16,
        rms_norm=True, tied_unembed=False,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    state = {n: torch.randn(s, generator=draw) for n, s in expected_shapes(config).items()}
    weights = Weights.from_state(config, state)
    tokens = torch.randint(32, (16, 6), generator=draw)
    answers = torch.tensor([[3, 5]] * 8 + [[5, 3]] * 8)
    prompts = ScoredPrompts(tokens, torch.full((16,), 6), answers)
    gated = Gated(weights, torch.zeros(node_space(config).n_nodes), sparse=False)
    return Problem(gated, prompts, prompts, prompts, "zero")


def test_the_smallest_size_reaches_its_target_and_one_less_does_not() -> None:
    problem = random_problem()
    ranking = np.random.default_rng(0).permutation(problem.space.n_nodes)
    sizes = measure.Sizes(problem, ranking, "train")
    losses = [sizes.outcome(k).loss for k in range(len(ranking) + 1)]
    for target in np.quantile(losses, [0.3, 0.5, 0.9]):
        k = sizes.smallest(float(target))
        assert k is not None
        assert losses[k] <= target
        assert k == 0 or losses[k - 1] > target
    assert sizes.smallest(-1.0) is None


def test_fitted_pairs_are_learned_from_cut_on_and_judged_on() -> None:
    problem = random_problem()
    few = grounds.fitted(replaced(problem, pool=problem.train), 3)
    assert len(few.pool) == 6
    assert few.pool is few.train is few.held_out
    assert torch.equal(few.train.tokens, problem.train.tokens[[0, 1, 2, 8, 9, 10]])


def test_conditions_name_both_models() -> None:
    conditions: Conditions = RESULTS.conditions
    assert [model.name for model in conditions.models] == [SPARSE, DENSE]
    assert isinstance(RESULTS, Results)

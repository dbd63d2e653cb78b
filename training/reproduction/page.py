"""The page: `docs/reproduction.md`, whose tables and verdicts are made from the results.

Between `<!-- generated: NAME -->` and `<!-- end: NAME -->` nothing is typed by hand; what stands
around them says how things were measured, and names no number of ours.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

from circuitd.circuits.problem import Split
from circuitd.circuits.verify.thresholds import CHANCE
from training.card import table
from training.reproduction.figures import FIGURES, svg
from training.reproduction.measure import (
    K_COEFS,
    N_FITTED_PAIRS,
    N_RANDOM,
    SETTINGS,
    SPLITS,
    TARGET_LOSS,
    TARGET_LOSSES,
    WELL_DONE_LOSS,
)
from training.reproduction.plan import SPARSE, done
from training.reproduction.records import Given, Null, Results
from training.reproduction.summary import (
    LEARNED,
    METHODS,
    Edges,
    Summary,
    geometric_mean,
    mean_ratio,
)

PAGE: Final = "reproduction.md"
FOLDER: Final = "reproduction"
_MARKED: Final = re.compile(
    r"(?P<open><!-- generated: (?P<name>\w+) -->)\n.*?(?P<close><!-- end: (?P=name) -->)",
    re.DOTALL,
)
_SPLIT_NAMES: Final[dict[Split, str]] = {"train": "training pairs", "held_out": "held-out pairs"}
#: Issue 3, section 5.
GOAL_TWINS, GOAL_RANKINGS, GOAL_TASKS = 8.0, 2.0, 8


def fill(page: str, summary: Summary) -> str:
    """`page` with every generated section as the results have it.

    Raises ValueError for a marker without a section and a section without a marker.
    """
    named = {match["name"] for match in _MARKED.finditer(page)}
    if named != set(SECTIONS):
        raise ValueError(f"markers and sections differ: {sorted(named ^ set(SECTIONS))}")
    return _MARKED.sub(
        lambda m: f"{m['open']}\n{SECTIONS[m['name']](summary)}\n{m['close']}",
        page,
    )


def write_or_check(docs: Path, results: Results, *, check: bool) -> list[Path]:
    """Write the page's sections and its figures; the files that were not as they must be."""
    summary = Summary(results)
    page = docs / PAGE
    wanted = {page: fill(page.read_text("utf-8"), summary).encode()}
    for name, (drawing, size) in FIGURES.items():
        wanted[docs / FOLDER / f"{name}.svg"] = svg(drawing, summary, size)
    stale = [path for path, to_be in wanted.items() if _content(path) != to_be]
    if not check:
        for path in stale:
            path.write_bytes(wanted[path])
    return stale


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _claims(summary: Summary) -> str:
    rows: list[tuple[str, ...]] = []
    for tuned, how in ((False, "same settings"), (True, "best price of each")):
        sparse, dense = summary.twins(TARGET_LOSS, "train", tuned=tuned)
        if not sparse:
            continue
        fewer = mean_ratio(dense, sparse)
        rows.append(
            (
                f"sparse twin against dense, {how}, {len(sparse)} tasks",
                "16 to 24 times fewer",
                f"{GOAL_TWINS:g} times fewer, {GOAL_TASKS} tasks",
                f"{_number(fewer)} times fewer{_spread(dense, sparse)}",
                _met(fewer >= GOAL_TWINS and len(sparse) >= GOAL_TASKS),
            )
        )
    for split in SPLITS:
        edges = summary.rankings(TARGET_LOSS, split)
        learned, attribution = edges[LEARNED], edges["attribution"]
        rows.append(
            (
                f"learned masks against attribution, {_SPLIT_NAMES[split]}, {len(learned)} tasks",
                "316 times fewer",
                "",
                f"{_number(mean_ratio(attribution, learned))} times fewer"
                f"{_spread(attribution, learned)}",
                "",
            )
        )
        best = summary.best_other(TARGET_LOSS, split)
        others = ", ".join(_spaced(method) for method in edges if method != LEARNED)
        ratio = mean_ratio(best, learned)
        rows.append(
            (
                f"learned masks against each task's best of {others}, {_SPLIT_NAMES[split]}",
                "",
                f"{GOAL_RANKINGS:g} times fewer, {GOAL_TASKS} tasks",
                f"{_number(ratio)} times fewer{_spread(best, learned)}",
                _met(ratio >= GOAL_RANKINGS and len(best) >= GOAL_TASKS),
            )
        )
    ablated = summary.ablated().values()
    without = [record.loss_without for record in ablated]
    harm = [
        statistics.fmean(record.losses_without_others) - record.whole_loss for record in ablated
    ]
    rows.append(
        (
            "loss of the whole model without the circuit",
            ".5 to .69",
            f"near ln 2 ({CHANCE:.2f})",
            f"{_loss(min(without))} to {_loss(max(without))}, median "
            f"{_loss(statistics.median(without))}",
            "",
        )
    )
    rows.append(
        (
            f"what as many random other nodes add to its loss, mean of {N_RANDOM} draws, by task",
            "at most 2e-6",
            "near 0",
            f"{_loss(min(harm))} to {_loss(max(harm))}, median {_loss(statistics.median(harm))}",
            "",
        )
    )
    return f"Edges at a loss of {TARGET_LOSS:g}, ratios of geometric means over tasks:\n\n" + table(
        ["claim", "paper", "goal", "ours", "goal met"], rows
    )


def _spread(of: Edges, to: Edges) -> str:
    """How much single tasks differ from the mean."""
    ratios = [max(1, of[task]) / max(1, to[task]) for task in to]
    return (
        f" (by task {_number(min(ratios))} to {_number(max(ratios))}, median "
        f"{_number(statistics.median(ratios))})"
    )


def _conditions(summary: Summary) -> str:
    c = summary.results.conditions
    settings = ", ".join(f"`{name}` {value}" for name, value in c.settings.items())
    head = [
        "model",
        "layers, width, MLP",
        "nodes",
        "nonzero block weights",
        "kernels",
        "tasks done",
    ]
    rows = [
        (
            f"{m.name} (`{m.model_hash[:12]}`)",
            f"{m.n_layer}, {m.d_model}, {m.d_mlp}",
            f"{m.n_nodes:,}",
            f"{m.n_block_weights:,}",
            m.execution,
            len(done(summary.wholes(m.name).values())),
        )
        for m in c.models
    ]
    return (
        f"{table(head, rows)}\n\n"
        f"Of {c.date}, circuitd {c.version}. A task is done where the unpruned model's loss is at\n"
        f"most {WELL_DONE_LOSS:g} on both splits; below are the tasks that both twins do. Fixed\n"
        f"pairs: {c.n_pairs} training, {c.n_held_out_pairs} held out; gates are learned from "
        f"another {c.n_pool_pairs}\ntraining pairs; data seed {c.data_seed}. Settings of learned "
        f"masks:\n{settings}."
    )


def _twins(summary: Summary) -> str:
    head = ["target loss", "reached on", "k_coef", "tasks", "sparse", "dense", "ratio"]
    tried = "best of " + ", ".join(f"{k:g}" for k in K_COEFS)
    means = [
        (
            f"{target:g}",
            _SPLIT_NAMES[split],
            tried if tuned else f"{SETTINGS.k_coef:g}",
            *_twin_means(*summary.twins(target, split, tuned=tuned)),
        )
        for tuned in (False, True)
        for split in SPLITS
        for target in TARGET_LOSSES
    ]
    by_how = [summary.twins(TARGET_LOSS, "train", tuned=tuned) for tuned in (False, True)]
    rows = [
        (task, *(cell for twins in by_how for cell in _twin_cells(task, *twins)))
        for task in by_how[0][0]
    ]
    best = ("best sparse", "best dense", "best ratio")
    tasks = table(["task", "sparse", "dense", "ratio", *best], rows)
    return (
        f"Geometric means of edges:\n\n{table(head, means)}\n\n"
        f"Edges at {TARGET_LOSS:g} on training pairs, with `k_coef` {SETTINGS.k_coef:g} and with "
        f"the best of those tried:\n\n{tasks}"
    )


def _twin_cells(task: str, sparse: Edges, dense: Edges) -> tuple[str, ...]:
    if task not in sparse:
        return "-", "-", "-"
    ratio = max(1, dense[task]) / max(1, sparse[task])
    return f"{sparse[task]:,}", f"{dense[task]:,}", _number(ratio)


def _twin_means(sparse: Edges, dense: Edges) -> tuple[str, ...]:
    return (
        str(len(sparse)),
        _count(geometric_mean(sparse.values())),
        _count(geometric_mean(dense.values())),
        _number(mean_ratio(dense, sparse)),
    )


def _rankings(summary: Summary) -> str:
    measured = tuple(summary.rankings(TARGET_LOSS, "held_out"))
    parts: list[str] = []
    if missing := [_spaced(method) for method in METHODS if method not in measured]:
        parts.append(f"**Not measured on all tasks, so not compared: {', '.join(missing)}.**\n")
    for split in reversed(SPLITS):
        rows: list[tuple[object, ...]] = []
        for target in TARGET_LOSSES:
            edges = summary.rankings(target, split)
            best = mean_ratio(summary.best_other(target, split), edges[LEARNED])
            means = [_count(geometric_mean(edges[method].values())) for method in measured]
            rows.append((f"{target:g}", len(edges[LEARNED]), *means, _number(best)))
        head = ["target loss", "tasks", *map(_spaced, measured), "best other / learned"]
        parts.append(f"Geometric means of edges, target reached on {_SPLIT_NAMES[split]}:\n")
        parts.append(table(head, rows) + "\n")
    everything = {m: summary.edges(SPARSE, m, TARGET_LOSS, "held_out") for m in METHODS}
    shown = [method for method in METHODS if everything[method]]
    by_task = [
        (task, *(_edges(everything[method].get(task)) for method in shown))
        for task in summary.rankings(TARGET_LOSS, "held_out")[LEARNED]
    ]
    parts.append(f"Edges at a held-out loss of {TARGET_LOSS:g}:\n")
    parts.append(table(["task", *map(_spaced, shown)], by_task))
    return "\n".join(parts)


def _necessity(summary: Summary) -> str:
    head = ["task", "nodes", "whole model", "without the circuit", "without random others"]
    rows = [
        (
            task,
            f"{record.n_nodes:,}",
            _loss(record.whole_loss),
            _loss(record.loss_without),
            f"{_loss(statistics.fmean(record.losses_without_others))} "
            f"({_loss(min(record.losses_without_others))} to "
            f"{_loss(max(record.losses_without_others))})",
        )
        for task, record in summary.ablated().items()
    ]
    return table(head, rows)


def _nulls(summary: Summary) -> str:
    kinds: tuple[Given, ...] = get_args(Given)
    parts: list[str] = []
    for is_fitted in (True, False):
        found = {given: summary.nulls(given, is_fitted=is_fitted) for given in kinds}
        tasks = sorted(set.intersection(*(set(by_task) for by_task in found.values())))
        if not tasks:
            continue
        rows = [(task, *(_needed(found[given][task]) for given in kinds)) for task in tasks]
        what = (
            f"Learned from and reached on the same {N_FITTED_PAIRS} pairs"
            if is_fitted
            else "Reached on other pairs than it was learned from"
        )
        parts.append(f"{what}: nodes (edges), or the least loss of any size tried.\n")
        parts.append(table(["task", *kinds], rows) + "\n")
        for given in kinds[1:]:
            pairs = [(found[given][t].n_nodes, found["task"][t].n_nodes) for t in tasks]
            both = [(null, real) for null, real in pairs if null is not None and real is not None]
            sentence = f"- {given}: {len(both)} of {len(tasks)} tasks reach {TARGET_LOSS:g}"
            if both:
                ratio = geometric_mean(n for n, _ in both) / geometric_mean(r for _, r in both)
                sentence += f", with {_number(ratio)} times the task's own nodes (geometric mean)"
            parts.append(f"{sentence}.")
        parts.append("")
    return "\n".join(parts).rstrip()


SECTIONS: Final[dict[str, Callable[[Summary], str]]] = {
    "claims": _claims,
    "conditions": _conditions,
    "twins": _twins,
    "rankings": _rankings,
    "necessity": _necessity,
    "nulls": _nulls,
}


def _needed(null: Null) -> str:
    if null.n_nodes is None or null.n_edges is None:
        return f"loss {_loss(null.least_loss)}"
    return f"{null.n_nodes:,} ({null.n_edges:,})"


def _edges(n_edges: int | None) -> str:
    return "-" if n_edges is None else f"{n_edges:,}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


def _loss(loss: float) -> str:
    return f"{loss:.3f}" if abs(loss) >= 0.001 else f"{loss:.0e}" if loss else "0"


def _count(mean: float) -> str:
    return "-" if math.isnan(mean) else f"{mean:,.0f}"


def _number(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}"

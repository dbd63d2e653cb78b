"""Pruning: whole runs to a loss of 0.15 through the daemon, and one step against autograd.

A run is what `circuit prune --task TASK` does: learning, cutting, held-out pairs, the deltas of all
parts. A step is the loss and the gradient by every gate on one batch of pairs; the baseline is the
engine and autograd with the same gates, and both must find the same gradient.
"""

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.report import Goal, Table
from benchmarks.timing import local, take_turns
from circuit_protocol.circuits import PruneSettings
from circuitd.circuits.gated import Gated, GateGradient
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.steps import finish
from circuitd.worker.models import read_means

TARGET_LOSS = 0.15
#: The tasks that the shipped model does well, those the project named first in front.
TASKS = (
    *("single_double_quote", "bracket_counting", "set_or_string_fixedvarname", "for_while"),
    *("bracket_brace", "fstring_brace", "final_kwarg", "lambda_func"),
    *("if_ternary", "indent_for", "if_equals", "var_if"),
)
N_TASKS, N_TASKS_QUICK = 2, 1
MEDIAN = "median"
#: Seconds of the median task.
GOAL_S = 60.0
STEP_TASK = TASKS[0]
SPARSE, DENSE = "sparse kernels", "engine and autograd"
#: Largest difference of the two gradients, as a share of the largest entry.
TOLERANCE = 1e-3


def measure(bench: Bench) -> list[Table]:
    """One table of whole runs, one of a step."""
    return [_runs(bench), _step(bench)]


def _runs(bench: Bench) -> Table:
    n_tasks = N_TASKS_QUICK if bench.quick else len(TASKS) if bench.full else N_TASKS
    model, prune = bench.shipped.name, bench.daemon.client.prune
    # Kernels are compiled, the model loaded.
    prune(model, tasks=TASKS[0], ks=1, settings=PruneSettings(n_steps=1), save=False)
    rows: dict[str, dict[str, float]] = {}
    for task in TASKS[:n_tasks]:
        bench.say(f"  pruning {task}")
        result = prune(model, tasks=task, target_losses=TARGET_LOSS, save=False)
        m = result.circuits[0].measured
        rows[task] = {"s": result.compute_s, "nodes": m.k, "edges": m.n_edges}
        rows[task] |= {"loss": m.loss, "held_out_loss": m.held_out_loss or 0.0}
    columns = ("s", "nodes", "edges", "loss", "held_out_loss")
    table = Table(
        "prune",
        f"Prune to a loss of {TARGET_LOSS:g} ({model}, seed 0, default settings)",
        columns,
        goals=(Goal(MEDIAN, "s", GOAL_S),),
        notes=[f"{n_tasks} of the {len(TASKS)} tasks that the model does well."],
    )
    for task, cells in rows.items():
        table.add(task, **cells)
    table.add(MEDIAN, **{c: float(np.median([rows[t][c] for t in rows])) for c in columns})
    return table


def _step(bench: Bench) -> Table:
    settings = PruneSettings()
    network = bench.shipped
    prompts = prompts_of(bench, STEP_TASK, settings.n_pairs_per_step)
    means = read_means(network.weights, network.directory)
    assert means is not None  # the shipped model has them
    ablated = torch.cat([means[site.name] for site in node_space(network.config).sites])
    gates = torch.ones(node_space(network.config).n_nodes)
    networks = {
        SPARSE: Gated(network.weights, ablated),
        DENSE: Gated(network.weights, ablated, sparse=False),
    }
    ways = {
        name: lambda gated=gated: finish(gated.gradient(prompts, gates))
        for name, gated in networks.items()
    }
    _check_same(*(way() for way in ways.values()))
    timings = take_turns(
        {name: local(way) for name, way in ways.items()}, rounds=bench.rounds(10), burst=2
    )
    table = Table(
        "prune_step",
        f"Loss and gradient by {len(gates):,} gates, {len(prompts)} prompts of {STEP_TASK}, "
        f"{int(prompts.lengths.sum()):,} tokens",
        ("call_ms", "dense_times"),
        notes=[f"Execution of the first row: {networks[SPARSE].execution}."],
    )
    for name, timing in timings.items():
        ratio = None if name == DENSE else timing.times(timings[DENSE])
        table.add(name, call_ms=timing.call_ms, dense_times=ratio)
    return table


def prompts_of(bench: Bench, task: str, n_pairs: int) -> ScoredPrompts:
    """Training pairs of a task as the shipped model reads them."""
    sample = bench.daemon.client.tasks.sample(task, bench.shipped.name, n=n_pairs, split="train")
    parts = (sample.tokens, sample.lengths, sample.answers)
    return ScoredPrompts(*(torch.from_numpy(part.copy()).long() for part in parts))


def _check_same(one: GateGradient, other: GateGradient) -> None:
    worst = float((one.gradient - other.gradient).abs().max() / other.gradient.abs().max())
    if worst > TOLERANCE or abs(one.loss - other.loss) > TOLERANCE:
        raise RuntimeError(f"the two ways to a gradient differ by {worst:.1e} of its largest entry")

"""A circuit of 200 nodes: the deltas of all its parts, and an edit.

The deltas are what `circuit circuits measure` stores. Their baseline is the sweep of dense masks
that serves networks which the sparse kernels do not cover, on the same pairs, nodes and half
blocks; both must find the same deltas. An edit drops a node and measures what is left on all pairs.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.pruning import prompts_of
from benchmarks.report import Goal, Table
from benchmarks.timing import Spread
from circuit_protocol.circuits import Circuit, CircuitDetails
from circuit_protocol.interventions import SiteChannels
from circuitd.circuits.gated import Gated
from circuitd.circuits.measure import measure_parts
from circuitd.circuits.nodes import node_space
from circuitd.circuits.problem import Problem
from circuitd.worker.models import read_means

TASK = "bracket_counting"
N_NODES = 200
N_PAIRS = 32
#: For the comparison with the dense sweep, which takes seconds at so few.
N_DENSE_PAIRS = 4
TOLERANCE = 1e-3
#: Seconds for the deltas of nodes, edges and half blocks.
GOAL_S = 2.0
ALL = "deltas of nodes, edges and half blocks"
SOME = "deltas of nodes and half blocks"
FEW_PAIRS = f"the same on {N_DENSE_PAIRS} pairs"
DENSE = "the same by a sweep of dense masks"
EDIT = "edit: a node dropped"


def measure(bench: Bench) -> list[Table]:
    """One row per thing that is asked of the circuit."""
    circuits, model = bench.daemon.client.circuits, bench.shipped.name
    found = bench.daemon.client.prune(model, tasks=TASK, ks=N_NODES, sweep="bench").circuits[0]
    circuit = circuits.show(found).circuit
    strongest = circuit.nodes[0]
    drop = SiteChannels(site=strongest.site, channels=(strongest.channels or ())[:1])
    rounds = bench.rounds(5)

    def seconds(call: Callable[[], object]) -> Spread:
        call()  # finds caches cold, and is not counted
        taken: list[float] = []
        for _ in range(rounds):
            start_s = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start_s)
        return Spread.of(taken)

    every = seconds(lambda: circuits.measure(found, model, n_pairs=N_PAIRS))
    some = seconds(lambda: circuits.measure(found, model, n_pairs=N_PAIRS, edges=False))
    few = seconds(lambda: circuits.measure(found, model, n_pairs=N_DENSE_PAIRS, edges=False))
    details = circuits.show(found).details
    assert details is not None  # it was just measured
    edit = seconds(lambda: circuits.edit(found, model, drop=(drop,), use_cache=False))
    n_nodes, n_halves = found.measured.k, len(details.layers)
    dense_s, dense = _dense(bench, circuit)
    _check_same(details, dense)
    table = Table(
        "editing",
        f"A circuit of {n_nodes} nodes and {found.measured.n_edges} edges ({TASK})",
        ("s", "parts", "parts_per_s", "dense_times"),
        goals=(Goal(ALL, "s", GOAL_S),),
        notes=[
            f"Deltas on {N_PAIRS} pairs, an edit on {found.measured.n_pairs} training and "
            f"{found.measured.n_held_out_pairs} held-out pairs; all through the daemon, but the "
            "sweep, which ran once."
        ],
    )
    n_parts = n_nodes + n_halves
    n_all = n_parts + found.measured.n_edges
    table.add(ALL, s=every, parts=n_all, parts_per_s=n_all / every.median)
    table.add(SOME, s=some, parts=n_parts, parts_per_s=n_parts / some.median)
    ratio = few.median / dense_s
    table.add(FEW_PAIRS, s=few, parts=n_parts, parts_per_s=n_parts / few.median, dense_times=ratio)
    table.add(DENSE, s=dense_s, parts=n_parts, parts_per_s=n_parts / dense_s)
    table.add(EDIT, s=edit)
    return [table]


def _dense(bench: Bench, circuit: Circuit) -> tuple[float, CircuitDetails]:
    """Seconds and deltas of nodes and half blocks through the engine, in this process."""
    network = bench.shipped
    means = read_means(network.weights, network.directory)
    assert means is not None  # the shipped model has them
    ablated = torch.cat([means[site.name] for site in node_space(network.config).sites])
    prompts = prompts_of(bench, TASK, N_DENSE_PAIRS)
    gated = Gated(network.weights, ablated, sparse=False)
    problem = Problem(gated, prompts, prompts, prompts, circuit.ablation)
    start_s = time.perf_counter()
    steps = measure_parts(problem, prompts, circuit, edges=False)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return time.perf_counter() - start_s, end.value


def _check_same(one: CircuitDetails, other: CircuitDetails) -> None:
    ours, theirs = (
        np.array([d for part in details.nodes for d in part.deltas]) for details in (one, other)
    )
    if (worst := np.abs(ours - theirs).max()) > TOLERANCE:
        raise RuntimeError(f"deltas differ from those of the dense sweep by {worst:.1e}")

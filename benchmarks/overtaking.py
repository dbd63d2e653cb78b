"""Overtaking: how long an interactive request takes while a prune runs, from its start to its end.

One client asks for forward passes, each as soon as the last is answered: for a while alone, beside
a whole prune (drawing prompts, learning, cutting, the deltas of all parts), and alone again, so
that what disturbs the machine for a while disturbs both. Each request waits for the step under way.
"""

import numpy as np

from benchmarks.bench import Bench
from benchmarks.load import Clients, Window, forward_of
from benchmarks.networks import prompt
from benchmarks.report import Goal, Table
from circuit_protocol.circuits import PruneSettings

N_POSITIONS = 64
PRUNED_TASK = "bracket_counting"
IDLE, BESIDE = "while nothing else runs", "while a prune runs"
#: How much longer p99 may become.
GOAL_P99 = 3.0
#: The prune is looked at for its end so often.
WINDOW_S = 0.5
ENDED = ("done", "failed", "cancelled")


def measure(bench: Bench) -> list[Table]:
    """One row alone, one beside the prune."""
    network, client = bench.shipped, bench.daemon.client
    idle_s, n_steps = (0.5, 5) if bench.quick else (4.0, 60)
    row = prompt(network.config, 1, N_POSITIONS)[0]
    idle, beside = Window(0.0), Window(0.0)

    def prune(n_steps: int, ks: tuple[int, ...]) -> None:
        job = client.prune.detach(
            network.name,
            tasks=PRUNED_TASK,
            ks=ks,
            settings=PruneSettings(n_steps=n_steps),
            save=False,
        )
        while job.info().state not in ENDED:
            _join(beside, clients.run(1, WINDOW_S))
        job.result()  # raises what it failed with

    with Clients(bench.daemon.endpoint, [[forward_of(network.name, row)]]) as clients:
        prune(1, (10,))  # kernels are loaded, prompts drawn
        beside.latencies_s.clear()
        _join(idle, clients.run(1, idle_s))
        prune(n_steps, (100, 200))
        _join(idle, clients.run(1, idle_s))
    table = Table(
        "overtaking",
        f"One client's forward passes of {N_POSITIONS} tokens",
        ("requests", "p50_ms", "p99_ms", "max_ms", "idle_p99_times"),
        goals=(Goal(BESIDE, "idle_p99_times", GOAL_P99),),
        notes=[
            f"The prune: {n_steps} steps of learning on {PRUNED_TASK}, circuits of 100 and of 200 "
            "nodes, the deltas of their parts."
        ],
    )
    p99_ms = {way: _quantile_ms(window, 0.99) for way, window in ((IDLE, idle), (BESIDE, beside))}
    for way, window in ((IDLE, idle), (BESIDE, beside)):
        table.add(
            way,
            requests=len(window.latencies_s),
            p50_ms=_quantile_ms(window, 0.5),
            p99_ms=p99_ms[way],
            max_ms=_quantile_ms(window, 1),
            idle_p99_times=None if way == IDLE else p99_ms[way] / p99_ms[IDLE],
        )
    return [table]


def _join(window: Window, more: Window) -> None:
    window.elapsed_s += more.elapsed_s
    window.latencies_s += more.latencies_s


def _quantile_ms(window: Window, q: float) -> float:
    return 1e3 * float(np.quantile(window.latencies_s, q))

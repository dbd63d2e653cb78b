"""Concurrency: how many forward passes a second for one client and for sixteen at once.

Requests that wait together run as one batch. The engine in this process, one prompt after another
and sixteen in a batch, says what there is to be had.
"""

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.load import Clients, Window, forward_of
from benchmarks.networks import prompt
from benchmarks.report import Table
from benchmarks.timing import Spread
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan

N_CLIENTS = 16
N_POSITIONS = 64
#: What the other rows are compared with.
BASELINE: Final = "daemon, 1 client"


def measure(bench: Bench) -> list[Table]:
    """One row per way; they take turns by the second."""
    network, daemon = bench.shipped, bench.daemon
    prompts = prompt(network.config, N_CLIENTS, N_POSITIONS)
    tokens = torch.from_numpy(prompts).long()

    window_s = 0.3 if bench.quick else 1.0

    def engine(n_rows: int) -> Window:
        window, start_s = Window(0.0), time.perf_counter()
        while (now_s := time.perf_counter()) - start_s < window_s:
            forward(network.chosen, tokens[:n_rows], Plan(logits="last"))
            window.latencies_s += [time.perf_counter() - now_s] * n_rows
        window.elapsed_s = time.perf_counter() - start_s
        return window

    questions = [[forward_of(network.name, row)] for row in prompts]
    with Clients(daemon.endpoint, questions) as clients:
        clients.run(N_CLIENTS, 0.2)
        ways: dict[str, Callable[[], Window]] = {
            BASELINE: lambda: clients.run(1, window_s),
            "daemon, 4 clients": lambda: clients.run(4, window_s),
            f"daemon, {N_CLIENTS} clients": lambda: clients.run(N_CLIENTS, window_s),
            "engine, one at a time": lambda: engine(1),
            f"engine, batches of {N_CLIENTS}": lambda: engine(N_CLIENTS),
        }
        windows: dict[str, list[Window]] = {way: [] for way in ways}
        names = list(ways)
        for number in range(bench.rounds(4)):
            turn = number % len(names)
            for way in names[turn:] + names[:turn]:
                windows[way].append(ways[way]())
    table = Table(
        "concurrency",
        f"Forward passes of {N_POSITIONS} tokens, clients that ask again at once",
        ("requests_per_s", "one_client_times", "p50_ms", "p99_ms"),
        notes=["x: requests per second, against one client of the daemon."],
    )
    alone = np.array([window.per_s for window in windows[BASELINE]])
    for way, found in windows.items():
        rates = np.array([window.per_s for window in found])
        latencies_ms = 1e3 * np.concatenate([window.latencies_s for window in found])
        table.add(
            way,
            requests_per_s=Spread.of(rates),
            one_client_times=None if way == BASELINE else Spread.of(rates / alone),
            p50_ms=float(np.quantile(latencies_ms, 0.5)),
            p99_ms=float(np.quantile(latencies_ms, 0.99)),
        )
    return [table]

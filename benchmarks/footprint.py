"""Footprint: memory of front, worker and client as they start, load a model, and work on."""

import subprocess
import sys
from collections.abc import Mapping

from benchmarks.bench import Bench
from benchmarks.daemon import private_daemon
from benchmarks.memory import Memory, memory_of
from benchmarks.networks import prompt
from benchmarks.report import Goal, Table

#: Requests whose memory is compared with that after half of them.
N_REQUESTS = 1000
#: What a process may grow by in the second half before it counts as a leak.
GOAL_GROWTH_MIB = 1.0
PROCESSES = ("front", "worker", "client")


def measure(bench: Bench) -> list[Table]:
    """One row per stage of a daemon's life."""
    columns = tuple(f"{p}_{kind}_mib" for p in PROCESSES for kind in ("rss", "pss"))
    n_requests = 100 if bench.quick else N_REQUESTS
    growth = f"growth, requests {n_requests // 2} to {n_requests}"
    table = Table(
        "footprint",
        "Memory of the daemon's processes and of a client",
        columns,
        goals=tuple(Goal(growth, f"{p}_pss_mib", GOAL_GROWTH_MIB) for p in PROCESSES),
        notes=[
            "pss counts a shared page once for all who share it. Requests are forward passes of 8 "
            "to 128 tokens, all logits sent; the cache is off.",
            f"The model's weights are {bench.shipped.weights.nbytes / 2**20:.1f} MiB.",
        ],
    )
    with private_daemon(bench.data) as daemon:
        pids = {"front": daemon.front_pid, "worker": daemon.worker_pid}
        client = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.client_process"),
                *(daemon.endpoint, bench.shipped.name, str(bench.shipped.config.vocab_size)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdout.readline()
            pids["client"] = client.pid
            _add(table, "connected, no model", _all(pids))
            daemon.client.models.load(bench.shipped.name)
            _add(table, "model loaded", _all(pids))
            daemon.client.forward(bench.shipped.name, tokens=prompt(bench.shipped.config, 1, 128))
            _add(table, "after 1 request", _all(pids))
            halves: list[dict[str, Memory]] = []
            for half in (1, 2):
                client.stdin.write(f"{n_requests // 2}\n")
                client.stdin.flush()
                client.stdout.readline()
                halves.append(_all(pids))
                _add(table, f"after {half * n_requests // 2:,} requests", halves[-1])
            first, second = halves
            grown = {
                p: Memory(
                    second[p].rss_nbytes - first[p].rss_nbytes,
                    second[p].pss_nbytes - first[p].pss_nbytes,
                )
                for p in PROCESSES
            }
            _add(table, growth, grown)
        finally:
            client.communicate()  # its standard input ends, and so does it
    return [table]


def _all(pids: Mapping[str, int]) -> dict[str, Memory]:
    return {name: memory_of(pid) for name, pid in pids.items()}


def _add(table: Table, row: str, memory: Mapping[str, Memory]) -> None:
    cells = {f"{p}_rss_mib": m.rss_mib for p, m in memory.items()}
    table.add(row, **cells, **{f"{p}_pss_mib": m.pss_mib for p, m in memory.items()})

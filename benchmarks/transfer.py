"""Transfer: 64 MiB of recorded activations from the daemon into a numpy array, by handle."""

import numpy as np

from benchmarks.bench import Bench
from benchmarks.daemon import Daemon, Transport
from benchmarks.memory import memory_of
from benchmarks.networks import prompt
from benchmarks.report import Goal, Table
from benchmarks.timing import local, take_turns
from circuit_client import Value

TRANSPORTS: tuple[Transport, ...] = ("ipc", "tcp", "tcp+CURVE")
NBYTES = 64 << 20
GOAL_GIB_PER_S = 3.0


def measure(bench: Bench) -> list[Table]:
    """One row per transport, beside a copy within this process."""
    source = np.ones(NBYTES, np.uint8)

    def copy() -> object:
        return source.copy()

    subjects = {"copy": local(copy)}
    daemons = {transport: bench.daemon_over(transport) for transport in TRANSPORTS}
    held = {transport: _held(bench, daemon) for transport, daemon in daemons.items()}
    for transport, daemon in daemons.items():
        value = held[transport]
        subjects[transport] = local(lambda d=daemon, v=value: d.client.tensors.fetch(v))
    timings = take_turns(subjects, rounds=bench.rounds(20), burst=bench.burst(3))
    table = Table(
        "transfer",
        f"Fetching {NBYTES >> 20} MiB by handle",
        ("p50_ms", "p99_ms", "gib_per_s", "copy_times", "front_rss_mib", "front_pss_mib"),
        goals=(Goal("ipc", "gib_per_s", GOAL_GIB_PER_S, "at least"),),
        notes=["Every fetch fills a newly allocated array; so does the copy it is compared with."],
    )
    for name, timing in timings.items():
        front = memory_of(daemons[name].front_pid) if name in daemons else None
        table.add(
            "copy within this process" if name == "copy" else name,
            p50_ms=timing.p50_ms,
            p99_ms=timing.p99_ms,
            gib_per_s=NBYTES / (1 << 30) / (timing.p50_ms / 1e3),
            copy_times=None if name == "copy" else timing.times(timings["copy"]),
            front_rss_mib=front and front.rss_mib,
            front_pss_mib=front and front.pss_mib,
        )
    return [table]


def _held(bench: Bench, daemon: Daemon) -> Value:
    """MLP activations of a batch that make up NBYTES, in the daemon."""
    config = bench.shipped.config
    n_rows = NBYTES // (4 * config.d_mlp * config.block_size)
    answer = daemon.client.hook(
        bench.shipped.name,
        tokens=prompt(config, n_rows, config.block_size),
        sites=["0.mlp.post_act"],
        deliver="handle",
    )
    value = answer.value("0.mlp.post_act")
    if value.nbytes != NBYTES or value.is_here:
        raise RuntimeError(f"the held tensor has {value.nbytes} bytes")
    return value

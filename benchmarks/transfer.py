"""Transfer: 64 MiB of recorded activations from the daemon into a numpy array, by handle.

Over ipc the client maps the daemon's file, and no byte is moved before it is looked at. So that
this counts as a transfer, too, it is measured with a copy of the mapped array into a new one.
"""

import numpy as np

from benchmarks.bench import Bench
from benchmarks.daemon import Daemon, Transport
from benchmarks.memory import memory_of
from benchmarks.networks import prompt
from benchmarks.report import Goal, Table
from benchmarks.timing import local, take_turns
from circuit_client import Value
from circuit_client.verbs.tensors import fetch_sent
from circuit_protocol.tensors import Handle

TRANSPORTS: tuple[Transport, ...] = ("ipc", "tcp", "tcp+CURVE")
#: The same socket, the bytes sent all the same, as they are where the file cannot be mapped.
SENT = "ipc, sent"
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
    client, value = daemons["ipc"].client, held["ipc"]
    handle = value.tensor
    assert isinstance(handle, Handle)  # `_held` made sure
    subjects["ipc"] = local(lambda: client.tensors.fetch(value).copy())
    subjects[SENT] = local(lambda: client.run(fetch_sent(handle, value.instance)))
    daemons_of = {**daemons, SENT: daemons["ipc"]}
    timings = take_turns(subjects, rounds=bench.rounds(12), burst=bench.burst(3))
    table = Table(
        "transfer",
        f"Fetching {NBYTES >> 20} MiB by handle",
        ("p50_ms", "p99_ms", "gib_per_s", "copy_times", "front_rss_mib", "front_pss_mib"),
        goals=(Goal("ipc", "gib_per_s", GOAL_GIB_PER_S, "at least"),),
        notes=[
            "Every fetch fills a newly allocated array; so does the copy it is compared with. Over "
            "ipc that is a copy of the mapped file; `sent` has the bytes sent over the socket."
        ],
    )
    for name, timing in timings.items():
        front = memory_of(daemons_of[name].front_pid) if name in daemons_of else None
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

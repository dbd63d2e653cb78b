"""Overhead: what it costs to ask the daemon for a forward pass instead of calling the engine.

Both compute the same logits of the same prompt and end with a numpy array in this process. The
result cache is off; every request goes through front and worker.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from benchmarks.bench import Bench
from benchmarks.daemon import Daemon, Transport
from benchmarks.networks import Network, prompt
from benchmarks.report import Goal, Table
from benchmarks.timing import Subject, local, take_turns
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan

TRANSPORTS: tuple[Transport, ...] = ("ipc", "tcp", "tcp+CURVE")
#: What a millisecond matters to: an editor that asks after every key.
GOAL_MS = 0.5


@dataclass(frozen=True)
class Case:
    """A prompt of one row, and which logits are wanted."""

    n_positions: int
    logits: Literal["all", "last"]

    @property
    def title(self) -> str:
        """For the table's heading."""
        which = "logits of all positions" if self.logits == "all" else "logits of the last position"
        return f"Daemon over engine: {self.n_positions} tokens, {which}"


CASES = (Case(32, "last"), Case(128, "all"))


def measure(bench: Bench) -> list[Table]:
    """One table per case."""
    return [_measure(bench, case) for case in CASES]


def _measure(bench: Bench, case: Case) -> Table:
    network = bench.shipped
    execution = _check_execution(bench, case)
    daemons = {transport: bench.daemon_over(transport) for transport in TRANSPORTS}
    subjects = {"engine": local(_in_process(network, case))}
    for transport, daemon in daemons.items():
        subjects[transport] = _over(daemon, network, case)
    subjects["hello"] = local(daemons["ipc"].client.hello)
    timings = take_turns(subjects, rounds=bench.rounds(10), burst=bench.burst(12))
    table = Table(
        f"overhead-{case.n_positions}-{case.logits}",
        case.title,
        ("p50_ms", "p99_ms", "overhead_ms", "overhead_p99_ms"),
        goals=(Goal("daemon, ipc", "overhead_ms", GOAL_MS),),
        notes=[
            "Overhead: beyond the engine in the same round (median, quartiles over rounds); for "
            "p99, the difference of the two p99.",
            f"Engine and daemons both run {execution}.",
            "The last row is a request that the front answers by itself.",
        ],
    )
    engine = timings["engine"]
    table.add("engine, in this process", p50_ms=engine.p50_ms, p99_ms=engine.p99_ms)
    for transport in TRANSPORTS:
        timing = timings[transport]
        table.add(
            f"daemon, {transport}",
            p50_ms=timing.p50_ms,
            p99_ms=timing.p99_ms,
            overhead_ms=timing.beyond_ms(engine),
            overhead_p99_ms=timing.p99_ms - engine.p99_ms,
        )
    table.add("hello, ipc", p50_ms=timings["hello"].p50_ms, p99_ms=timings["hello"].p99_ms)
    return table


def _check_execution(bench: Bench, case: Case) -> str:
    """What engine and daemon run on, which must be the same: each has measured for itself."""
    network = bench.shipped
    tokens = prompt(network.config, 1, case.n_positions)
    own = forward(network.chosen, torch.from_numpy(tokens).long(), Plan(logits="last")).execution
    asked = bench.daemon.client.forward(network.name, tokens=tokens, use_cache=False).raw.execution
    if own != asked:
        raise RuntimeError(f"the engine here runs {own}, the daemon {asked}: nothing to compare")
    return own


def _in_process(network: Network, case: Case):
    tokens = prompt(network.config, 1, case.n_positions)

    def call() -> object:
        run = forward(network.chosen, torch.from_numpy(tokens).long(), Plan(logits=case.logits))
        assert run.logits is not None
        return run.logits.numpy()

    return call


def _over(daemon: Daemon, network: Network, case: Case) -> Subject:
    tokens = prompt(network.config, 1, case.n_positions)

    def call() -> object:
        answer = daemon.client.forward(
            network.name, tokens=tokens, logits=case.logits, deliver="inline", use_cache=False
        )
        return answer.logits

    return local(call)

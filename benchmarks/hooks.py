"""Hook overhead: a pass that records against the same pass that does not, engine and daemon.

All passes also compute the loss over every next token, so that none may stop early. Through the
daemon, recorded arrays are sent along; reduced ones show what is left when they are not.
"""

from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.networks import prompt
from benchmarks.report import Goal, Table
from benchmarks.timing import local, take_turns
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import sites

GOAL_TIMES = 1.1
#: Rows, positions, and rounds of a full run: fewer where each takes longer.
SHAPES = ((1, 128, 9), (8, 128, 3))


def measure(bench: Bench) -> list[Table]:
    """One table per shape of prompt."""
    return [_measure(bench, *shape) for shape in SHAPES]


def _measure(bench: Bench, n_rows: int, n_positions: int, rounds: int) -> Table:
    network, client = bench.shipped, bench.daemon.client
    array = prompt(network.config, n_rows, n_positions)
    next_tokens = np.full_like(array, -1)
    next_tokens[:, :-1] = array[:, 1:]
    tokens, targets = (torch.from_numpy(a).long() for a in (array, next_tokens))
    site = f"{network.config.n_layer - 1}.mlp.post_act"
    all_records = tuple(Record(s.name) for s in sites(network.config))

    def engine(*records: Record) -> Any:
        return forward(network.chosen, tokens, Plan(logits="none", targets=targets, record=records))

    def bare() -> Any:
        return client.forward(
            network.name,
            tokens=array,
            targets=next_tokens,
            logits="none",
            token_loss=False,
            use_cache=False,
        )

    def hook(selector: str, **options: Any) -> Any:
        answer = client.hook(
            network.name,
            tokens=array,
            targets=next_tokens,
            sites=[selector],
            use_cache=False,
            **options,
        )
        return [answer[name] for name in answer.sites]

    subjects = {
        "engine, bare": local(engine),
        "engine, one site": local(lambda: engine(Record(site))),
        "engine, one site, mean": local(lambda: engine(Record(site, reduce="mean"))),
        "engine, all sites": local(lambda: engine(*all_records)),
        "daemon, bare": local(bare),
        "daemon, one site, mean": local(lambda: hook(site, reduce="mean")),
        "daemon, one site": local(lambda: hook(site, deliver="inline")),
        "daemon, all sites": local(lambda: hook("*", deliver="inline")),
        "daemon, all sites by handle": local(lambda: _held(client, network.name, array)),
    }
    timings = take_turns(subjects, rounds=bench.rounds(rounds), burst=bench.burst(5))
    table = Table(
        f"hooks-{n_rows}x{n_positions}",
        f"Recording, {n_rows} x {n_positions} tokens ({len(all_records)} sites)",
        ("p50_ms", "p99_ms", "bare_times"),
        goals=(
            Goal("engine, one site", "bare_times", GOAL_TIMES),
            Goal("daemon, one site", "bare_times", GOAL_TIMES),
        ),
        notes=[f"One site: `{site}`, {array.size * network.config.d_mlp * 4 / 2**20:.1f} MiB."],
    )
    for name, timing in timings.items():
        baseline = timings[f"{name.partition(',')[0]}, bare"]
        table.add(
            name,
            p50_ms=timing.p50_ms,
            p99_ms=timing.p99_ms,
            bare_times=None if timing is baseline else timing.times(baseline),
        )
    return table


def _held(client: Any, model: str, tokens: np.ndarray) -> Any:
    """Record everything and leave it in the daemon."""
    return client.hook(model, tokens=tokens, sites=["*"], deliver="handle", use_cache=False)

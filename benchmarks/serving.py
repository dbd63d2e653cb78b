"""Serving: sixteen clients that ask different things, and how soon the front itself answers then.

The clients ask for forward passes of three lengths, a site's mean, and a circuit's loss with a node
ablated, each again at once. What the daemon answers per second is compared with the same work done
one request after another in this process. Meanwhile a process of its own asks the front, at even
intervals, what takes no worker: its event loop was busy for as long as that is late.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.even_client import ask_evenly
from benchmarks.load import Clients, Question, Window, forward_of
from benchmarks.networks import Network, prompt
from benchmarks.report import Goal, Table
from benchmarks.timing import Spread
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.requests import (
    Ablate,
    AblateNodes,
    Hook,
    PromptInput,
    Prompts,
    Record,
)
from circuit_protocol.tensors import Frame, pack
from circuitd.circuits.ablate import KEEP, ZERO, Mask
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine import plan
from circuitd.engine.gpt import forward

N_CLIENTS = 16
LENGTHS = (16, 64, 128)
N_POSITIONS = 64
SITE, CHANNEL = "2.mlp.post_act", 7
ENGINE, DAEMON = "engine, one at a time", f"daemon, {N_CLIENTS} clients"
IDLE = "while nothing else runs"
BUSY = f"while {N_CLIENTS} clients ask"
#: Share of the engine's rate that the daemon should reach.
GOAL_SHARE = 0.9


def measure(bench: Bench) -> list[Table]:
    """A table of throughput, a table of the front's delays."""
    kinds = list(_kinds(bench.shipped))
    return [_mixed(bench, kinds), _lag(bench, kinds)]


@dataclass(frozen=True, eq=False)
class _Kind:
    """One kind of request, and the same work in this process."""

    question: Question
    work: Callable[[], object]


def _mixed(bench: Bench, kinds: Sequence[_Kind]) -> Table:
    window_s, n_rounds = (0.3 if bench.quick else 1.5), bench.rounds(5)

    def engine() -> Window:
        window, begin_s = Window(0.0), time.perf_counter()
        while time.perf_counter() - begin_s < window_s:
            for kind in kinds:
                asked_s = time.perf_counter()
                kind.work()
                window.latencies_s.append(time.perf_counter() - asked_s)
        window.elapsed_s = time.perf_counter() - begin_s
        return window

    windows: dict[str, list[Window]] = {ENGINE: [], DAEMON: []}
    with Clients(bench.daemon.endpoint, _asked(kinds)) as clients:
        clients.run(N_CLIENTS, window_s)  # kernels are loaded
        engine()
        for number in range(n_rounds):
            order = [(ENGINE, engine), (DAEMON, lambda: clients.run(N_CLIENTS, window_s))]
            for way, run in order if number % 2 else reversed(order):
                windows[way].append(run())
    table = Table(
        "serving",
        f"Requests of {len(kinds)} kinds, answered per second",
        ("requests_per_s", "engine_times", "p50_ms", "p99_ms"),
        goals=(Goal(DAEMON, "engine_times", GOAL_SHARE, "at least"),),
        notes=[
            f"Forward passes of {', '.join(map(str, LENGTHS))} tokens, the mean of a site and an "
            f"ablated node of {N_POSITIONS}; equally many of each."
        ],
    )
    rates = {way: np.array([w.per_s for w in found]) for way, found in windows.items()}
    for way, found in windows.items():
        latencies_ms = 1e3 * np.concatenate([window.latencies_s for window in found])
        table.add(
            way,
            requests_per_s=Spread.of(rates[way]),
            engine_times=None if way == ENGINE else Spread.of(rates[way] / rates[ENGINE]),
            p50_ms=float(np.quantile(latencies_ms, 0.5)),
            p99_ms=float(np.quantile(latencies_ms, 0.99)),
        )
    return table


def _asked(kinds: Sequence[_Kind]) -> list[list[Question]]:
    """What each client asks in turn: every one starts with another kind."""
    questions = [kind.question for kind in kinds]
    turns = [i % len(kinds) for i in range(N_CLIENTS)]
    return [questions[turn:] + questions[:turn] for turn in turns]


def _lag(bench: Bench, kinds: Sequence[_Kind]) -> Table:
    seconds = 1.0 if bench.quick else 5.0
    endpoint = bench.daemon.endpoint
    table = Table(
        "front_lag",
        "The front's own answers (hello), asked at even intervals",
        ("requests", "p50_ms", "p99_ms", "max_ms"),
        notes=["From when each was due to its answer, so that a late front counts in full."],
    )
    with Clients(endpoint, _asked(kinds)) as clients:
        clients.run(N_CLIENTS, 0.5)
        found = {IDLE: ask_evenly(endpoint, seconds)()}
        answered = ask_evenly(endpoint, seconds)
        clients.run(N_CLIENTS, seconds + 1)  # until after the last of them
        found[BUSY] = answered()
    for way, latencies_s in found.items():
        p50_ms, p99_ms, max_ms = 1e3 * np.quantile(latencies_s, (0.5, 0.99, 1))
        table.add(way, requests=len(latencies_s), p50_ms=p50_ms, p99_ms=p99_ms, max_ms=max_ms)
    return table


def _kinds(network: Network) -> Iterator[_Kind]:
    name, weights = network.name, network.chosen
    for n in LENGTHS:
        row = prompt(network.config, 1, n)
        tokens = torch.from_numpy(row).long()
        yield _Kind(
            forward_of(name, row[0]),
            lambda tokens=tokens: forward(weights, tokens, plan.Plan(logits="last")),
        )
    row = prompt(network.config, 1, N_POSITIONS)
    tokens = torch.from_numpy(row).long()
    frames: list[Frame] = []
    answers = pack(np.array([[1, 2]], np.int32), frames)
    given = PromptInput(prompts=Prompts(tokens=pack(row, frames)), answers=answers)
    mean = plan.Plan(record=(plan.Record(SITE),), logits="none")
    yield _Kind(
        Question(
            Hook(
                id="",
                model=name,
                input=PromptInput(prompts=given.prompts),
                records=(Record(site=SITE, reduce="mean"),),
                use_cache=False,
            ),
            frames,
        ),
        lambda: forward(weights, tokens, mean).records[SITE].mean(1),
    )
    node = AblateNodes(nodes=(SiteChannels(site=SITE, channels=(CHANNEL,)),))
    space = node_space(network.config)
    base = Mask(np.full(space.n_nodes, KEEP, np.uint8))
    closed = base.codes.copy()
    closed[space.nodes(SITE, [CHANNEL])] = ZERO
    gated = Gated(network.weights, torch.zeros(space.n_nodes))
    prompts = ScoredPrompts(tokens, torch.tensor([N_POSITIONS]), torch.tensor([[1, 2]]))

    def ablated() -> list[torch.Tensor | None]:
        variants = gated.variants(prompts, base)
        assert variants is not None  # the kernels cover this network
        return list(variants.differences([base, Mask(closed)]))

    yield _Kind(
        Question(
            Ablate(id="", model=name, input=given, masks=((node,),), kind="zero", use_cache=False),
            frames,
        ),
        ablated,
    )

"""Peers at csp_yolo2's size: a forward pass in each, beside the published network in circuitd.

TransformerLens, nnsight and PyTorch get a GPT-2 of the same layers, heads and widths, since they do
not know AbsTopK, sinks and concatenated positions, which spares them that work. `plain_network` is
the published network itself in plain PyTorch; it must give the dense engine's logits.

Each takes turns with circuitd's chosen execution, alone with it in memory.
"""

import json

import torch

from benchmarks.bench import Bench
from benchmarks.memory import memory_of
from benchmarks.networks import WEIGHTS_FILE, prompt, write_dense
from benchmarks.paper_scale import CSP_YOLO2, tensors
from benchmarks.peers import FRAMEWORKS, peer_process, shape_of
from benchmarks.plain_network import PlainNetwork
from benchmarks.report import Goal, Table
from benchmarks.timing import Subject, local, take_turns
from circuitd.engine.gpt import forward
from circuitd.engine.sparse.choice import apply, choose
from circuitd.engine.weights import Weights

N_POSITIONS = 256
PLAIN = "the same network in plain PyTorch"
DENSE = "circuitd engine, dense"
#: How much faster the published network must be than any other way to run a network of its size.
GOAL = 12
#: For the median position: at near-ties AbsTopK follows rounding, the one here or the other there.
TOLERANCE = 1e-4


def measure(bench: Bench) -> list[Table]:
    """One row per way of running a network of that size."""
    if bench.quick:
        return []  # a pass alone takes seconds
    config, state = CSP_YOLO2.config, dict(tensors(CSP_YOLO2))
    row = prompt(config, 1, N_POSITIONS)
    tokens = torch.from_numpy(row).long()
    plain, weights = PlainNetwork(config, state), Weights.from_state(config, state)
    chosen = apply(weights, choose(weights))
    table = Table(
        "peers_paper",
        f"Peers at {CSP_YOLO2.name}'s size, {N_POSITIONS} tokens, all logits",
        ("ms", "circuitd_ms", "circuitd_faster_times", "rss_mib"),
        goals=(Goal(PLAIN, "circuitd_faster_times", GOAL, "at least"),),
        notes=[
            "circuitd: the published network on the execution chosen for it, in the same rounds.",
            "Frameworks run a GPT-2 of the same layers, heads and widths: no AbsTopK, no sinks.",
            "rss: of a process that holds the network and ran it; `packing` has circuitd's own.",
        ],
    )

    def add(name: str, subject: Subject, pid: int | None = None) -> None:
        subjects = {name: subject, "circuitd": local(lambda: forward(chosen, tokens))}
        timings = take_turns(subjects, rounds=bench.rounds(2), burst=1, lead_in=0)
        table.add(
            name,
            ms=timings[name].call_ms,
            circuitd_ms=timings["circuitd"].call_ms,
            circuitd_faster_times=timings[name].times(timings["circuitd"]),
            rss_mib=None if pid is None else memory_of(pid).rss_mib,
        )

    _check_same(plain(tokens), forward(weights, tokens).logits)
    add(PLAIN, local(lambda: plain(tokens)))
    add(DENSE, local(lambda: forward(weights, tokens)))
    path = write_dense(config, bench.scratch / "peers") / WEIGHTS_FILE
    shape = bench.scratch / "paper-shape.json"
    shape.write_text(json.dumps(shape_of(config, row)))
    for framework in FRAMEWORKS:
        with peer_process(framework, path, shape) as peer:
            add(peer.label, peer.subject("bare"), peer.ready["pid"])
    path.unlink()
    return [table]


def _check_same(one: torch.Tensor, other: torch.Tensor | None) -> None:
    assert other is not None  # the plan asks for all logits
    error = float(((one - other).norm(dim=-1) / other.norm(dim=-1)).median())
    if error > TOLERANCE:
        raise RuntimeError(f"the plain network differs from circuitd's by {error:.1e}, relative")

"""The engine on a GPU: csp_yolo2's shape, dense and on nonzeros, in both precisions; the daemon.

Only where there is a CUDA device. Clocks are read after the device has done its work. `torch` is
what the same network takes on torch's own kernels alone: torch.topk, masked attention, launched one
by one.
"""

import dataclasses
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch

from benchmarks.bench import Bench
from benchmarks.memory import MIB
from benchmarks.networks import prompt
from benchmarks.paper_scale import CSP_YOLO2, tensors
from benchmarks.report import Table
from benchmarks.timing import Subject, local, take_turns
from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.cuda import available
from circuitd.engine.device import require_exact_float32
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.choice import Choice, apply, choose
from circuitd.engine.steps import finish
from circuitd.engine.weights import Weights
from circuitd.store.checkpoint import load_checkpoint

#: Rows and tokens of each.
BATCHES = ((1, 32), (1, 256), (8, 256), (64, 256))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Prompts that a mask is scored on, and of a pruning step.
MASKED, STEP = (32, 32), (8, 32)
_DENSE = Choice(reason="it was asked for")


def measure(bench: Bench) -> list[Table]:
    """Forward passes, what circuits cost, the daemon; nothing where there is no CUDA device."""
    if not torch.cuda.is_available():
        bench.say("  there is no CUDA device here: nothing is measured")
        return []
    require_exact_float32()
    networks = _networks(bench)
    tables = [_forwards(bench, networks), _circuits(bench, networks)]
    del networks
    torch.cuda.empty_cache()
    return [*tables, _daemon(bench)]


def _networks(bench: Bench) -> dict[str, Weights]:
    """The published size by execution and precision, each with memory of its own."""
    state = dict(tensors(CSP_YOLO2))
    found: dict[str, Weights] = {}
    for name, dtype in DTYPES.items():
        read = Weights.from_state(CSP_YOLO2.config, state, dtype, "cuda")
        choice = choose(read)
        bench.say(f"  {name}: {choice.summary}")
        found[f"sparse_{name}"] = apply(read, choice)
        found[f"dense_{name}"] = apply(read, _DENSE)
    return found


def _forwards(bench: Bench, networks: dict[str, Weights]) -> Table:
    weights_mib = {name: weights.nbytes / MIB for name, weights in networks.items()}
    columns = ("torch_fp32", *networks)
    table = Table(
        "cuda_forward",
        f"Forward at {CSP_YOLO2.name}'s shape on {torch.cuda.get_device_name()}, logits of the "
        "last position",
        (*(f"{name}_ms" for name in columns), "sparse_fp32_error", "beyond_1e-4"),
        notes=[
            "Weights: " + ", ".join(f"{n} {size:,.0f} MiB" for n, size in weights_mib.items()),
            "The error is that of all logits against dense fp32: median over positions, and the "
            "share of positions beyond 1e-4, where AbsTopK decided a near-tie otherwise.",
        ],
    )
    for n_rows, n_tokens in BATCHES:
        tokens = torch.from_numpy(prompt(CSP_YOLO2.config, n_rows, n_tokens)).long().cuda()
        subjects = {name: _forward(weights, tokens) for name, weights in networks.items()}
        torch.cuda.reset_peak_memory_stats()
        timings = take_turns(subjects, rounds=bench.rounds(10), burst=3)
        with _torch_alone():
            plain = {"torch": _forward(_plain(networks["dense_fp32"]), tokens)}
            timings["torch_fp32"] = take_turns(plain, rounds=2, burst=3)["torch"]
        expected, found = (
            forward(networks[name], tokens).logits for name in ("dense_fp32", "sparse_fp32")
        )
        assert expected is not None  # the plan asks for all logits
        assert found is not None
        errors = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
        table.add(
            f"{n_rows} x {n_tokens} tokens",
            **{f"{name}_ms": timings[name].call_ms for name in columns},
            sparse_fp32_error=f"{float(errors.median()):.1e}",
            **{"beyond_1e-4": f"{float((errors > 1e-4).float().mean()):.1%}"},
        )
        peak_mib = torch.cuda.max_memory_allocated() / MIB
        table.notes.append(f"{n_rows} x {n_tokens}: at most {peak_mib:,.0f} MiB, all weights incl.")
    return table


def _circuits(bench: Bench, networks: dict[str, Weights]) -> Table:
    """A mask's score and a pruning step, through the engine and autograd."""
    table = Table(
        "cuda_circuits",
        f"Circuits at {CSP_YOLO2.name}'s shape: every node gated",
        tuple(f"{name}_ms" for name in networks),
    )
    draw = torch.Generator().manual_seed(1)
    n_nodes = node_space(CSP_YOLO2.config).n_nodes
    ablated, gates = (
        0.05 * torch.randn(n_nodes, generator=draw),
        torch.rand(n_nodes, generator=draw),
    )
    kept = (gates > 0.5).float()
    for title, shape, is_step in (("one mask", MASKED, False), ("pruning step", STEP, True)):
        prompts = _scored(*shape)

        def work(weights: Weights, prompts: ScoredPrompts = prompts, is_step: bool = is_step):
            gated = Gated(weights, ablated)
            if is_step:
                return local(lambda: finish(gated.gradient(prompts, gates)))
            return local(lambda: finish(gated.differences(prompts, kept)))

        subjects = {name: work(weights) for name, weights in networks.items()}
        timings = take_turns(subjects, rounds=bench.rounds(6), burst=3)
        row = f"{title}, {shape[0]} x {shape[1]} tokens"
        table.add(row, **{f"{name}_ms": timing.call_ms for name, timing in timings.items()})
    return table


def _daemon(bench: Bench) -> Table:
    """What a request costs beyond the engine, when both compute on the GPU."""
    network, client = bench.shipped, bench.daemon.client
    loaded = load_checkpoint(network.directory, torch.float32, torch.device("cuda")).weights
    weights = apply(loaded, choose(loaded))
    tokens = prompt(network.config, 1, 32)

    def engine() -> object:
        logits = forward(weights, torch.from_numpy(tokens).long(), Plan(logits="last")).logits
        assert logits is not None  # the plan asks for the last position's
        return logits.cpu().numpy()

    def ask() -> object:
        return client.forward(
            network.name, tokens=tokens, logits="last", deliver="inline", use_cache=False
        ).logits

    subjects = {"engine": local(engine), "daemon, ipc": local(ask)}
    timings = take_turns(subjects, rounds=bench.rounds(30), burst=bench.burst(10))
    table = Table(
        "cuda_daemon",
        "Daemon over engine on the GPU: the shipped model, 32 tokens, logits of the last position",
        ("p50_ms", "p99_ms", "overhead_ms"),
    )
    base = timings["engine"]
    table.add("engine", p50_ms=base.p50_ms, p99_ms=base.p99_ms)
    asked = timings["daemon, ipc"]
    table.add(
        "daemon, ipc", p50_ms=asked.p50_ms, p99_ms=asked.p99_ms, overhead_ms=asked.beyond_ms(base)
    )
    devices = {process.device for process in client.status().processes if process.device}
    table.notes.append(f"The daemon's workers: {', '.join(sorted(devices))}.")
    return table


def _forward(weights: Weights, tokens: torch.Tensor) -> Subject:
    def call() -> None:
        forward(weights, tokens, Plan(logits="last"))
        torch.cuda.synchronize()

    return local(call)


def _plain(weights: Weights) -> Weights:
    """The same tensors without replays."""
    return dataclasses.replace(weights, replays=None)


def _torch_alone() -> AbstractContextManager[object]:
    """As where Triton is not installed."""
    return patch.object(available, "why_not", lambda _: "torch alone is measured")


def _scored(n_rows: int, n_positions: int) -> ScoredPrompts:
    """Random tokens; what they say does not change what they cost."""
    draw, vocab_size = torch.Generator().manual_seed(2), CSP_YOLO2.config.vocab_size
    tokens = torch.randint(vocab_size, (n_rows, n_positions), generator=draw)
    answers = torch.randint(vocab_size, (n_rows, 2), generator=draw)
    return ScoredPrompts(tokens, torch.full((n_rows,), n_positions), answers)

"""Circuits at csp_yolo2's shape: forward, every node in turn, a pruning step, against dense.

The circuit is grown along the nonzeros of a network with random weights, so that its nodes feed
each other in every layer. Dense is the engine with the same gates, which a plain implementation of
the network would take as long for; where it would take minutes it is timed on few masks.

    python -m benchmarks.paper_circuits     all, in a process of its own, as one JSON line
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.memory import MIB
from benchmarks.paper_scale import CSP_YOLO2, paper_weights
from benchmarks.prune_memory import peak_nbytes
from benchmarks.report import Goal, Table
from circuitd.circuits.ablate import KEEP, MEAN, Mask
from circuitd.circuits.gated import Gated, GateGradient
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.sparse.compiled.circuit import is_worth_compiling
from circuitd.engine.sparse.lanes.execute import SparseNetwork
from circuitd.engine.sparse.lanes.layout import lay_out, sizes_of
from circuitd.engine.steps import finish
from circuitd.engine.weights import Weights

#: Nodes at most: the circuit grows in every layer alike.
K = 200
KS = (100, 200, 800, 3200)
N_MASKS = (1, 16, 128, 512)
#: One prompt of a forward pass; prompts of a sweep, about as long as a task's; of a pruning step.
FORWARD, SWEEP, STEP = (1, 256), (32, 32), (8, 32)
#: Largest difference of medians, as a share of the largest value.
TOLERANCE = 1e-3
FORWARD_ROW = f"forward, {FORWARD[0]} x {FORWARD[1]} tokens"
EDIT_ROW = "the same, compiled anew"
SWEEP_ROW = f"every node in turn, {SWEEP[0]} x {SWEEP[1]} tokens"
STEP_ROW = f"pruning step, {STEP[0]} x {STEP[1]} tokens"


def measure(bench: Bench) -> list[Table]:
    """One table against dense, two of how the cost grows."""
    if bench.quick:
        return []  # a dense pass alone takes seconds
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paper_circuits"], check=True, stdout=subprocess.PIPE
    )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    peak_mib, k = found["process"]["peak_mib"], found["process"]["k"]
    against = Table(
        "paper_circuits",
        f"A circuit of {k} nodes at {CSP_YOLO2.name}'s shape",
        ("ms", "dense_ms", "faster_times"),
        goals=(
            Goal(FORWARD_ROW, "faster_times", 100, "at least"),
            Goal(SWEEP_ROW, "faster_times", 200, "at least"),
            Goal(STEP_ROW, "faster_times", 8, "at least"),
        ),
        notes=[
            "Sweep: with compilation; dense is one mask's pass, measured once, times the masks.",
            f"Dense ran once where it takes seconds. At most {peak_mib:,.0f} MiB were resident, "
            "dense weights included.",
        ],
    )
    over_k = Table(
        "circuit_k",
        f"The same circuit grown: {SWEEP[0]} x {SWEEP[1]} tokens, compiled and on all channels",
        ("compiled_ms", "compiled_anew_ms", "all_channels_ms", "chosen"),
    )
    over_masks = Table(
        "circuit_masks",
        f"Masks of {k} nodes in one request, a random 20 of which each closes",
        ("ms", "masks_per_s"),
    )
    for table in (against, over_k, over_masks):
        for row, cells in found[table.name].items():
            table.add(row, **cells)
    return [against, over_k, over_masks]


@dataclass(eq=False)
class _Case:
    """The network, its nodes' ablated values, and the same network kept dense."""

    weights: Weights

    @cached_property
    def ablated(self) -> torch.Tensor:
        """Random values, as means are: constants that fill the stream."""
        draw = torch.Generator().manual_seed(1)
        return 0.05 * torch.randn(node_space(self.weights.config).n_nodes, generator=draw)

    @cached_property
    def sparse(self) -> Gated:
        """Compiled, or on all channels."""
        return Gated(self.weights, self.ablated)

    @cached_property
    def network(self) -> SparseNetwork:
        """The kernels themselves."""
        return SparseNetwork(self.weights)

    @cached_property
    def dense(self) -> Gated:
        """The engine and autograd."""
        return Gated(self.weights, self.ablated, sparse=False)

    def prompts(self, n_rows: int, n_positions: int) -> ScoredPrompts:
        """Random tokens; what they say does not change what they cost."""
        draw, vocab_size = torch.Generator().manual_seed(2), self.weights.config.vocab_size
        tokens = torch.randint(vocab_size, (n_rows, n_positions), generator=draw)
        answers = torch.randint(vocab_size, (n_rows, 2), generator=draw)
        return ScoredPrompts(tokens, torch.full((n_rows,), n_positions), answers)


def at_paper_scale() -> dict[str, dict[str, Any]]:
    """Rows of the tables by name, measured in this process."""
    case = _Case(paper_weights(CSP_YOLO2))
    kept = grow(case.weights, K)
    tables: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
        "paper_circuits": lambda: _against_dense(case, kept),
        "circuit_k": lambda: _over_k(case),
        "circuit_masks": lambda: _over_masks(case, kept),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, rows in tables.items():
        print(f"  {name}", file=sys.stderr, flush=True)
        begin_s = time.perf_counter()
        found[name] = rows()
        print(f"    {time.perf_counter() - begin_s:.0f} s", file=sys.stderr, flush=True)
    return found | {"process": {"peak_mib": peak_nbytes("self") / MIB, "k": int(kept.sum())}}


def grow(weights: Weights, k: int) -> np.ndarray:
    """At most `k` nodes, BOOL [n_nodes], that feed each other along nonzeros in every layer."""
    config, space, net = weights.config, node_space(weights.config), lay_out(weights)
    d_attn, rng = config.d_attn, np.random.default_rng(0)
    kept = np.zeros(space.n_nodes, bool)
    written: list[int] = []

    def pick(site: str, channels: np.ndarray) -> None:
        kept[space.nodes(site, channels.tolist())] = True

    def read(n: int) -> np.ndarray:
        """Inputs of a half block: half of them channels that the circuit has written."""
        some = rng.integers(0, config.d_model, n)
        if written:
            some[: n // 2] = rng.choice(written, n // 2)
        return np.unique(some)

    def reached(layer: int, matrix: int, sources: np.ndarray) -> np.ndarray:
        starts = net.column_start[layer, matrix] + sources
        runs = [net.targets[net.columns[at] : net.columns[at + 1]] for at in starts]
        return np.unique(np.concatenate(runs))

    n = max(1, k // (10 * config.n_layer))  # nodes of each site, twice as many of both act_in
    for layer in range(config.n_layer):
        source = read(2 * n)
        pick(f"{layer}.attn.act_in", source)
        heads = rng.integers(0, config.n_head, -(-n // 2))
        own = np.unique(heads[:, None] * config.d_head + rng.integers(0, config.d_head, 2))
        pick(f"{layer}.attn.q", own[:n])
        pick(f"{layer}.attn.k", own[:n])
        value = reached(layer, 0, source) - 2 * d_attn
        value = np.concatenate([own[: -(-n // 2)], value[value >= 0][: n - n // 2]])
        pick(f"{layer}.attn.v", np.unique(value))
        out = reached(layer, 1, np.unique(value))[:n]
        pick(f"{layer}.attn.resid_delta", out)
        source = read(2 * n)
        pick(f"{layer}.mlp.act_in", source)
        hidden = reached(layer, 2, source)[:n]
        pick(f"{layer}.mlp.post_act", hidden)
        written += out.tolist()
        out = reached(layer, 3, hidden)[:n] if len(hidden) else hidden
        pick(f"{layer}.mlp.resid_delta", out)
        written += out.tolist()
    pick("final_resid", rng.permutation(np.unique(written))[: max(1, k - int(kept.sum()))])
    return kept


def _against_dense(case: _Case, kept: np.ndarray) -> dict[str, dict[str, float]]:
    gates, rows = torch.from_numpy(kept).float(), {}
    prompts = case.prompts(*FORWARD)
    compiled = _run(case, prompts, kept, [])
    dense = finish(case.dense.differences(prompts, gates))  # also makes the matrices dense
    _check_same(compiled[0], dense)
    own_s, anew_s = _forward_s(case, prompts, kept)
    dense_s = _median_s(lambda: finish(case.dense.differences(prompts, gates)), 2)
    rows[FORWARD_ROW], rows[EDIT_ROW] = _cells(own_s, dense_s), _cells(anew_s, dense_s)

    prompts = case.prompts(*SWEEP)
    nodes = np.flatnonzero(kept)
    masks = [_mask(kept, node) for node in np.split(nodes, len(nodes))]
    _run(case, prompts, kept, masks[:2])
    sweep_s = _median_s(lambda: _run(case, prompts, kept, masks), 2)
    closed = gates.clone()
    closed[nodes[0]] = 0
    begin_s = time.perf_counter()
    dense = finish(case.dense.differences(prompts, closed))
    dense_s = time.perf_counter() - begin_s
    _check_same(_run(case, prompts, kept, masks[:1])[1], dense)
    rows[SWEEP_ROW] = _cells(sweep_s, dense_s * len(nodes))

    prompts, gates = case.prompts(*STEP), torch.ones(len(kept))
    found: list[GateGradient] = []
    step_s = _median_s(lambda: found.append(finish(case.sparse.gradient(prompts, gates))), 5)
    begin_s = time.perf_counter()
    dense_step = finish(case.dense.gradient(prompts, gates))
    rows[STEP_ROW] = _cells(step_s, time.perf_counter() - begin_s)
    if abs(found[0].loss - dense_step.loss) > TOLERANCE * max(1.0, dense_step.loss):
        raise RuntimeError(f"losses of a step differ: {found[0].loss} and {dense_step.loss}")
    return rows


def _forward_s(case: _Case, prompts: ScoredPrompts, kept: np.ndarray) -> tuple[float, float]:
    """Seconds of a circuit's pass from the embeddings on: compiled before, and compiled anew."""
    network, ablated = case.network, case.ablated.numpy()
    assert prompts.answers is not None
    laid = network.lay(prompts.tokens, prompts.lengths, prompts.answers)
    compiled = finish(network.compiled(laid, kept, ablated))

    def anew() -> None:
        finish(finish(network.compiled(laid, kept, ablated)).differences())

    return _median_s(lambda: finish(compiled.differences()), 10), _median_s(anew, 5)


def _over_k(case: _Case) -> dict[str, dict[str, float | str]]:
    net, sizes, rows = lay_out(case.weights), sizes_of(case.weights.config), {}
    prompts = case.prompts(*SWEEP)
    for k in KS:
        kept = grow(case.weights, k)
        is_compiled = is_worth_compiling(net, sizes, kept)
        chosen = "compiled" if is_compiled else "all channels"
        cells: dict[str, float | str] = {"chosen": chosen}
        if is_compiled:
            own_s, anew_s = _forward_s(case, prompts, kept)
            cells |= {"compiled_ms": 1e3 * own_s, "compiled_anew_ms": 1e3 * anew_s}
        # A gate that is neither open nor closed keeps a pass on all channels.
        ajar = torch.from_numpy(kept).float()
        ajar[0] = 0.5
        every_s = _median_s(lambda ajar=ajar: finish(case.sparse.differences(prompts, ajar)))
        rows[f"{int(kept.sum()):,} nodes"] = cells | {"all_channels_ms": 1e3 * every_s}
    return rows


def _over_masks(case: _Case, kept: np.ndarray) -> dict[str, dict[str, float]]:
    prompts, rng, rows = case.prompts(*SWEEP), np.random.default_rng(0), {}
    nodes = np.flatnonzero(kept)
    for n in N_MASKS:
        masks = [_mask(kept, rng.choice(nodes, 20, replace=False)) for _ in range(n)]
        seconds = _median_s(lambda masks=masks: _run(case, prompts, kept, masks), 1)
        rows[f"{n:,} masks"] = {"ms": 1e3 * seconds, "masks_per_s": n / seconds}
    return rows


def _run(case: _Case, prompts: ScoredPrompts, kept: np.ndarray, masks: list[Mask]) -> torch.Tensor:
    """Differences [1 + m, B] of the circuit and of `masks` against it, compiled for them."""
    variants = case.sparse.variants(prompts, _mask(kept))
    assert variants is not None  # the kernels cover this network
    found = variants.differences([_mask(kept), *masks])
    return torch.cat([part for part in found if part is not None])


def _mask(kept: np.ndarray, closed: np.ndarray | None = None) -> Mask:
    codes = np.where(kept, KEEP, MEAN).astype(np.uint8)
    if closed is not None:
        codes[closed] = MEAN
    return Mask(codes)


def _cells(seconds: float, dense_s: float) -> dict[str, float]:
    return {"ms": 1e3 * seconds, "dense_ms": 1e3 * dense_s, "faster_times": dense_s / seconds}


def _median_s(call: Callable[[], object], n: int = 4) -> float:
    """Median seconds of `n` calls, the first, which finds caches cold, not counted."""
    seconds: list[float] = []
    call()
    for _ in range(n):
        begin_s = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin_s)
    return float(np.median(seconds))


def _check_same(one: torch.Tensor, other: torch.Tensor) -> None:
    # AbsTopK decides near-ties by rounding: a row may differ, most must not.
    worst = float((one - other).abs().median() / other.abs().max())
    if worst > TOLERANCE:
        raise RuntimeError(f"the circuit differs from the dense network by {worst:.1e}")


if __name__ == "__main__":
    print(json.dumps(at_paper_scale()))

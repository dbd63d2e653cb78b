"""Sweeps: losses of a task with one node ablated in turn, against one forward pass per mask.

The nodes are every n-th channel of every node site, so each layer has its share, as in a sweep over
the whole model. All ways must give the same losses.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.report import Table
from benchmarks.timing import Spread
from circuitd.circuits.ablate import ZERO, Mask, ScoredPrompts, Sweep
from circuitd.circuits.nodes import node_space
from circuitd.circuits.scoring import answer_logits, two_token_losses
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Zero
from circuitd.engine.plan import Plan
from circuitd.engine.weights import Weights
from circuitd.worker.slices import rows_per_step

TASK = "single_double_quote"
N_PAIRS = 8
#: About so many masks; the naive loop is timed on every eighth of them.
N_MASKS = 512
NAIVE_EVERY = 8
TOLERANCE = 1e-4

Node = tuple[str, int]


@dataclass(eq=False)
class _Case:
    """The prompts, and the nodes that are ablated one at a time."""

    weights: Weights
    prompts: ScoredPrompts
    nodes: Sequence[Node]

    @cached_property
    def masks(self) -> list[Mask]:
        """One mask per node."""
        space = node_space(self.weights.config)
        masks: list[Mask] = []
        for site, channel in self.nodes:
            codes = np.zeros(space.n_nodes, np.uint8)
            codes[space.nodes(site, [channel])] = ZERO
            masks.append(Mask(codes))
        return masks

    def naive(self) -> np.ndarray:
        """One whole forward pass per mask."""
        assert self.prompts.answers is not None
        losses: list[float] = []
        for site, channel in self.nodes[::NAIVE_EVERY]:
            plan = Plan(
                interventions=(Zero(site, channels=(channel,)),),
                logits="last",
                lengths=self.prompts.lengths,
            )
            logits = forward(self.weights, self.prompts.tokens, plan).logits
            assert logits is not None
            answered = answer_logits(logits, self.prompts.answers)
            losses.append(float(two_token_losses(answered).mean()))
        return np.array(losses)

    def swept(self, n_rows: int) -> np.ndarray:
        """`Sweep`: the prefix shared, and as many masks in a pass as make up `n_rows` rows."""
        base = Mask(np.zeros_like(self.masks[0].codes))
        sweep = Sweep(self.weights, self.prompts, base, rows_per_step=n_rows)
        sweep.score_base()
        parts = [scores.losses for scores in sweep.run(self.masks) if scores is not None]
        return torch.cat(parts).numpy()


def measure(bench: Bench) -> list[Table]:
    """One row per way."""
    network, client = bench.shipped, bench.daemon.client
    sample = client.tasks.sample(TASK, network.name, n=N_PAIRS)
    prompts = ScoredPrompts(
        torch.from_numpy(sample.tokens.copy()).long(),
        torch.from_numpy(sample.lengths.copy()).long(),
        torch.from_numpy(sample.answers.copy()).long(),
    )
    n_rows, n_positions = prompts.tokens.shape
    space = node_space(network.config)
    stride = space.n_nodes // (N_MASKS // 16 if bench.quick else N_MASKS)
    channels = {site.name: range(0, site.width, stride) for site in space.sites}
    nodes = [(site, channel) for site, some in channels.items() for channel in some]
    case = _Case(network.weights, prompts, nodes)
    batched_rows = rows_per_step(network.weights, n_positions)  # what the daemon's worker takes

    def daemon() -> np.ndarray:
        answer = client.ablate(
            network.name,
            task=TASK,
            n=N_PAIRS,
            every="node",
            among=channels,
            kind="zero",
            use_cache=False,
        )
        return answer.losses

    ways: dict[str, Callable[[], np.ndarray]] = {
        "naive: a forward pass per mask": case.naive,
        "prefix shared": lambda: case.swept(n_rows),
        "prefix shared, masks batched": lambda: case.swept(batched_rows),
        "daemon": daemon,
    }
    rates = _run(ways, rounds=bench.rounds(6))
    naive = rates["naive: a forward pass per mask"]
    table = Table(
        "sweeps",
        f"Ablating {len(nodes)} of {space.n_nodes} nodes in turn, {n_rows} rows of {n_positions} "
        f"tokens ({TASK})",
        ("masks_per_s", "naive_times", "every_node_s"),
        notes=["Every node: how long the sweep over all nodes of the model would take."],
    )
    for way, per_round in rates.items():
        table.add(
            way,
            masks_per_s=Spread.of(per_round),
            naive_times=None if per_round is naive else Spread.of(per_round / naive),
            every_node_s=space.n_nodes / float(np.median(per_round)),
        )
    return [table]


def _run(ways: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, np.ndarray]:
    """Masks per second of each way in each round; raises if their losses differ."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    losses = {way: call() for way, call in ways.items()}  # also warms everything up
    first = losses["daemon"][::NAIVE_EVERY]
    for way, found in losses.items():
        worst = np.abs((found if len(found) == len(first) else found[::NAIVE_EVERY]) - first).max()
        if worst > TOLERANCE:
            raise RuntimeError(f"losses of {way!r} differ from the daemon's by {worst:.1e}")
    names = list(ways)
    for number in range(rounds):
        turn = number % len(names)
        for way in names[turn:] + names[:turn]:
            start_s = time.perf_counter()
            n_masks = len(ways[way]())
            rates[way].append(n_masks / (time.perf_counter() - start_s))
    return {way: np.array(values) for way, values in rates.items()}

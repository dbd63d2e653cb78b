"""Sweeps: losses of a task under thousands of masks, against one masked forward pass per mask.

Of the whole model single nodes are ablated, every n-th channel of every node site, so that each
layer has its share. Of a shipped circuit a random tenth of the nodes is, as searches and controls
do. The naive loop runs the dense network and is timed on few of the masks; the losses of those must
be the same in every way.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.pruning import prompts_of
from benchmarks.report import Goal, Table
from benchmarks.timing import Spread
from circuit_client.answers import AblateAnswer
from circuitd.circuits.ablate import KEEP, MEAN, Mask, ScoredPrompts, Sweep
from circuitd.circuits.nodes import NodeSpace, node_space
from circuitd.engine.weights import Weights
from circuitd.worker.models import read_means

TASK = "bracket_counting"
N_PAIRS = 32
#: About so many single nodes of the whole model, and so many masks of the circuit.
N_NODES, N_MASKS = 64, 2048
#: Masks that the naive loop is timed on.
N_NAIVE = 4
CLOSED_SHARE = 0.1
TOLERANCE = 1e-3
NAIVE = "naive: a dense forward pass per mask"
WHOLE = "daemon, nodes of the whole model in turn"
NODES = "daemon, nodes of a circuit in turn"
CIRCUIT = "daemon, random tenths of a circuit"


def measure(bench: Bench) -> list[Table]:
    """One row per way; the naive loop of single nodes costs what that of the circuit does."""
    network, client = bench.shipped, bench.daemon.client
    prompts, space = prompts_of(bench, TASK, N_PAIRS), node_space(network.config)
    means = read_means(network.weights, network.directory)
    assert means is not None  # the shipped model has them
    flat = torch.cat([means[site.name] for site in space.sites])
    n_nodes, n_masks = (16, 256) if bench.quick else (N_NODES, N_MASKS)

    among = {site.name: range(0, site.width, space.n_nodes // n_nodes) for site in space.sites}
    nodes = np.flatnonzero(space.mask(among.items()))
    single = np.ones((len(nodes), space.n_nodes), bool)
    single[np.arange(len(nodes)), nodes] = False

    found = min(
        (c for c in client.circuits.list(network.name, task=TASK) if c.broken is None),
        key=lambda c: abs(c.measured.k - 150),
    )
    parts = client.circuits.show(found.id).circuit.nodes
    kept = space.mask((part.site, part.channels) for part in parts)
    subsets = kept & (np.random.default_rng(0).random((n_masks, space.n_nodes)) >= CLOSED_SHARE)

    def whole() -> AblateAnswer:
        return client.ablate(
            network.name, task=TASK, n=N_PAIRS, every="node", among=among, use_cache=False
        )

    def circuit() -> AblateAnswer:
        return client.ablate(network.name, task=TASK, n=N_PAIRS, packed=subsets, use_cache=False)

    def in_turn() -> AblateAnswer:
        return client.ablate(
            network.name, task=TASK, n=N_PAIRS, every="node", keep=parts, use_cache=False
        )

    own = np.flatnonzero(kept)
    without_one = np.tile(kept, (len(own), 1))
    without_one[np.arange(len(own)), own] = False

    ways: dict[str, tuple[Callable[[], AblateAnswer], np.ndarray]] = {
        WHOLE: (whole, single),
        NODES: (in_turn, without_one),
        CIRCUIT: (circuit, subsets),
    }
    dense = dataclasses.replace(network.weights, sparse=None)
    naive: list[float] = []
    rates: dict[str, list[float]] = {way: [] for way in ways}
    executions: dict[str, str] = {}
    for way, (ask, masks) in ways.items():
        answer = ask()  # also warms everything up
        executions[way] = answer.raw.execution
        _check_same(answer.losses[:1], _naive(dense, prompts, space, flat, masks[:1]))
    for _ in range(bench.rounds(2)):
        begin_s = time.perf_counter()
        expected = _naive(dense, prompts, space, flat, subsets[:N_NAIVE])
        naive.append(N_NAIVE / (time.perf_counter() - begin_s))
        for way, (ask, masks) in ways.items():
            begin_s = time.perf_counter()
            answer = ask()
            rates[way].append(len(masks) / (time.perf_counter() - begin_s))
            if way == CIRCUIT:
                _check_same(answer.losses[:N_NAIVE], expected)
    table = Table(
        "sweeps",
        f"Masks on {len(prompts)} prompts of {TASK}, {int(prompts.lengths.sum()):,} tokens",
        ("masks", "masks_per_s", "naive_times", "execution"),
        goals=tuple(Goal(way, "naive_times", 50, "at least") for way in (NODES, CIRCUIT)),
        notes=[
            f"The circuit has {int(kept.sum())} of {space.n_nodes:,} nodes, a random tenth of "
            "which each mask closes. Each row of the daemon is one request, sent and answered.",
            "The naive loop was timed on few of the circuit's masks.",
        ],
    )
    table.add(NAIVE, masks=N_NAIVE, masks_per_s=Spread.of(naive))
    for way, per_round in rates.items():
        table.add(
            way,
            masks=len(ways[way][1]),
            masks_per_s=Spread.of(per_round),
            naive_times=Spread.of(np.array(per_round) / np.array(naive)),
            execution=executions[way],
        )
    return [table]


def _naive(
    weights: Weights,
    prompts: ScoredPrompts,
    space: NodeSpace,
    means: torch.Tensor,
    masks: np.ndarray,
) -> Sequence[float]:
    """One whole forward pass per mask (BOOL [m, n_nodes], True stays): losses."""
    losses: list[float] = []
    for row in masks:
        mask = Mask(np.where(row, KEEP, MEAN).astype(np.uint8))
        sweep = Sweep(weights, prompts, mask, means, rows_per_step=len(prompts))
        # No base was scored, so that the pass starts at the beginning and records nothing.
        losses += [float(s.losses[0]) for s in sweep.run([mask]) if s is not None]
    return losses


def _check_same(ours: np.ndarray, theirs: Sequence[float]) -> None:
    if (worst := np.abs(ours - np.array(theirs)).max()) > TOLERANCE:
        raise RuntimeError(f"losses differ from those of the naive loop by {worst:.1e}")

"""What a circuit does on its task, and what each of its nodes, edges and half blocks adds to that.

A delta is the circuit's loss with that part ablated as well, minus its loss: nats, mean per side.
Everything is scored against the circuit as base, so a part costs only the layers from its own on,
and several parts share a batch. A circuit's calibration holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import numpy as np
from msgspec.structs import replace
from torch import Tensor

from circuit_protocol.circuits import (
    Calibration,
    Circuit,
    CircuitDetails,
    EdgeGroup,
    LayerDelta,
    NodeDeltas,
)
from circuit_protocol.interventions import NodeSet
from circuitd.circuits.ablate import CODES, KEEP, ROWS_PER_STEP, Mask, Scores, Sweep
from circuitd.circuits.nodes import NodeSpace, node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.scoring import calibrated, correct, two_token_losses
from circuitd.circuits.steps import Steps
from circuitd.circuits.value import cut_of, edges_in, edges_of, mask_of, node_set
from circuitd.engine.weights import Weights

_HALVES: Final[tuple[Literal["attn", "mlp"], ...]] = ("attn", "mlp")


@dataclass(frozen=True, eq=False)
class Grounds:
    """What circuits of one task are measured on: a model, prompts with answers, and the values of
    mean-ablated nodes [n_nodes] (None: they are not needed). `seed` pairs prompts for resampling.
    """

    weights: Weights
    prompts: ScoredPrompts
    means: Tensor | None = None
    seed: int = 0
    rows_per_step: int = ROWS_PER_STEP
    cancelled: Callable[[], bool] | None = None

    def sweep(self, base: Mask) -> Sweep:
        """A sweep of masks against `base`."""
        return Sweep(
            self.weights,
            self.prompts,
            base,
            self.means,
            self.seed,
            self.rows_per_step,
            self.cancelled,
        )


@dataclass(frozen=True)
class Score:
    """Mean loss per side in nats, and the share of prompts answered right."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class PartsDone:
    """How far the deltas are."""

    done: int
    total: int


def score_circuit(grounds: Grounds, circuit: Circuit) -> Steps[Score]:
    """The circuit's score, one pass per step."""
    return _score(grounds, mask_of(circuit, grounds.weights.config), circuit.calibration)


def score_model(grounds: Grounds) -> Steps[Score]:
    """The unpruned model's score likewise."""
    n_nodes = node_space(grounds.weights.config).n_nodes
    return _score(grounds, Mask(np.zeros(n_nodes, np.uint8)), None)


def measure_parts(
    grounds: Grounds, circuit: Circuit, *, edges: bool = True
) -> Generator[PartsDone | None, None, CircuitDetails]:
    """Deltas of nodes, half blocks and, with `edges`, edges; the edges themselves in any case.

    A node that is ablated is so in the circuit's way. Raises InvalidRequest for cut edges that do
    not exist.
    """
    weights, space = grounds.weights, node_space(grounds.weights.config)
    base = mask_of(circuit, weights.config)
    kept = base.codes == KEEP
    groups = edges_of(weights, kept, circuit.cut_edges)
    halves = list(_halves(kept, space))
    sweep = grounds.sweep(base)
    base_scores = yield from _base_scores(sweep)
    base_loss = float(_losses(base_scores, circuit.calibration)[0])

    code = CODES[circuit.ablation]
    parts = [*_node_masks(base, code), *_half_masks(base, halves, code)]
    if edges:
        parts += _edge_masks(base, groups, code, space)
    # In forward order, so that the masks of one batch share as long a prefix as they can.
    order = sorted(range(len(parts)), key=lambda i: parts[i][0])
    deltas = np.empty(len(parts))
    done = 0
    for scores in sweep.run(parts[i][1] for i in order):
        if scores is None:
            yield None
            continue
        losses = _losses(scores, circuit.calibration)
        deltas[order[done : done + len(losses)]] = losses.double().cpu().numpy() - base_loss
        done += len(losses)
        yield PartsDone(done, len(parts))
    n_pairs = len(grounds.prompts) // 2
    return _details(node_set(space, kept), groups, halves, deltas.tolist(), n_pairs)


def _score(grounds: Grounds, mask: Mask, calibration: Calibration | None) -> Steps[Score]:
    scores = yield from _base_scores(grounds.sweep(mask))
    answered = _answered(scores, calibration)
    return Score(float(two_token_losses(answered).double().mean()), float(correct(answered).mean()))


def _base_scores(sweep: Sweep) -> Steps[Scores]:
    for scores in sweep.base_steps():
        if scores is not None:
            return scores
        yield None
    raise AssertionError("a sweep ended without scores")


def _answered(scores: Scores, calibration: Calibration | None) -> Tensor:
    """Answer logits [m, B, 2], calibrated."""
    assert scores.answered is not None  # a task's prompts have answers
    if calibration is None:
        return scores.answered
    return calibrated(scores.answered, calibration.scale, calibration.bias)


def _losses(scores: Scores, calibration: Calibration | None) -> Tensor:
    return two_token_losses(_answered(scores, calibration)).double().mean(-1)


#: The number of the first node that a mask touches, which orders masks as the network runs, and it.
_Part = tuple[int, Mask]


def _node_masks(base: Mask, code: int) -> Iterator[_Part]:
    for node in np.flatnonzero(base.codes == KEEP):
        yield int(node), _ablated(base, np.array([node]), code)


def _half_masks(base: Mask, halves: Sequence[_Half], code: int) -> Iterator[_Part]:
    for half in halves:
        yield int(half.nodes[0]), _ablated(base, half.nodes, code)


def _edge_masks(
    base: Mask, groups: Sequence[EdgeGroup], code: int, space: NodeSpace
) -> Iterator[_Part]:
    for edge in edges_in(groups):
        first = int(space.nodes(edge.source, [edge.source_channel])[0])
        yield first, Mask(base.codes, (*base.cuts, cut_of(edge, code)))


def _ablated(base: Mask, nodes: np.ndarray, code: int) -> Mask:
    codes = base.codes.copy()
    codes[nodes] = code
    return Mask(codes, base.cuts)


@dataclass(frozen=True, eq=False)
class _Half:
    """The kept nodes of one half block, by number."""

    layer: int
    half: Literal["attn", "mlp"]
    nodes: np.ndarray


def _halves(kept: np.ndarray, space: NodeSpace) -> Iterator[_Half]:
    """The half blocks that have kept nodes, in forward order."""
    for layer in range(space.config.n_layer):
        for half in _HALVES:
            sites = [s.name for s in space.sites if s.name.startswith(f"{layer}.{half}.")]
            nodes = np.concatenate([space.nodes(site) for site in sites])
            if kept[nodes].any():
                yield _Half(layer, half, nodes[kept[nodes]])


def _details(
    nodes: NodeSet,
    groups: Sequence[EdgeGroup],
    halves: Sequence[_Half],
    deltas: list[float],
    n_pairs: int,
) -> CircuitDetails:
    """The deltas, given in the order nodes, halves, edges (which may be missing), as stored."""
    remaining = iter(deltas)

    def take(n: int) -> tuple[float, ...]:
        return tuple(islice(remaining, n))

    by_site = tuple(
        NodeDeltas(site=part.site, channels=part.channels, deltas=take(len(part.channels)))
        for part in nodes
        if part.channels is not None
    )
    layers = tuple(
        LayerDelta(layer=h.layer, half=h.half, n_nodes=len(h.nodes), delta=take(1)[0])
        for h in halves
    )
    with_deltas = tuple(replace(group, deltas=take(len(group.weights))) for group in groups)
    return CircuitDetails(edges=with_deltas, nodes=by_site, layers=layers, n_pairs=n_pairs)

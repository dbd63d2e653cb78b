"""What each node, edge and half block of a circuit adds to its loss on a task.

A delta is the circuit's loss with that part ablated as well, minus its loss: nats, mean per side.
A circuit's calibration holds for all of them. Each part is a variant of the circuit, computed from
where it differs on: by the sparse kernels where they run, else as masks of a sweep.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
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
from circuitd.circuits import calibrate
from circuitd.circuits.ablate import CODES, KEEP, Mask, Sweep
from circuitd.circuits.nodes import NodeSpace
from circuitd.circuits.problem import Outcome, Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.value import cut_of, edges_in, edges_of, mask_of, node_set

_HALVES: Final[tuple[Literal["attn", "mlp"], ...]] = ("attn", "mlp")


@dataclass(frozen=True)
class PartsDone:
    """How far the deltas are."""

    done: int
    total: int


#: None between passes, how far it is after each part (or few of them); returns the numbers.
Scoring = Generator[PartsDone | None, None, CircuitDetails]


def measure_parts(
    problem: Problem, prompts: ScoredPrompts, circuit: Circuit, *, edges: bool = True
) -> Scoring:
    """Deltas of nodes, half blocks and, with `edges`, edges; the edges themselves in any case.

    A part is ablated in the circuit's way. Raises InvalidRequest for cut edges that do not exist.
    """
    weights, space = problem.gated.weights, problem.space
    base = mask_of(circuit, weights.config)
    kept = base.codes == KEEP
    groups = edges_of(weights, kept, circuit.cut_edges)
    halves = list(_halves(kept, space))
    code = CODES[circuit.ablation]
    masks = [
        *(_ablated(base, np.array([node]), code) for node in np.flatnonzero(kept)),
        *(_ablated(base, half.nodes, code) for half in halves),
    ]
    if edges:
        cuts = (cut_of(edge, code) for edge in edges_in(groups))
        masks += [Mask(base.codes, (*base.cuts, cut)) for cut in cuts]
    losses: list[float] = []
    variants = None
    if circuit.ablation != "resample":
        variants = problem.gated.variants(prompts, base)
    if variants is None:
        for found in _swept(problem, prompts, circuit.calibration, base, masks):
            losses += found or []
            yield PartsDone(len(losses), len(masks))
    else:
        # The base comes first: its loss is taken from the others'.
        for found in variants.differences([base, *masks]):
            if found is None:
                yield None
            else:
                losses += [_loss(row, circuit.calibration) for row in found]
                yield PartsDone(len(losses) - 1, len(masks))
        losses = [loss - losses[0] for loss in losses[1:]]
    return _details(node_set(space, kept), groups, halves, losses, len(prompts) // 2)


def _swept(
    problem: Problem,
    prompts: ScoredPrompts,
    calibration: Calibration | None,
    base: Mask,
    masks: Sequence[Mask],
) -> Iterator[list[float] | None]:
    """Deltas of `masks` against `base`, in order, as they are known; None between passes.

    Masks come in forward order within nodes and within edges, so that those of one batch share as
    long a prefix as they can.
    """
    weights = problem.gated.weights
    means = problem.gated.ablated.to(weights.device)
    sweep = Sweep(weights, prompts, base, means, problem.resample_seed)
    base_loss: float | None = None
    for scores in sweep.base_steps():
        if scores is not None:
            base_loss = _loss(_differences(scores.answered)[0], calibration)
        yield None
    assert base_loss is not None  # steps end in scores
    for scores in sweep.run(masks):
        if scores is None:
            yield None
        else:
            yield [_loss(row, calibration) - base_loss for row in _differences(scores.answered)]


def _differences(answered: Tensor | None) -> Tensor:
    """Right minus wrong logit [m, B] of answer logits [m, B, 2]."""
    assert answered is not None  # a task's prompts have answers
    return (answered[..., 0] - answered[..., 1]).cpu()


def _loss(differences: Tensor, calibration: Calibration | None) -> float:
    """Mean loss of one mask [B]."""
    if calibration is not None:
        differences = calibrate.apply(differences, calibration)
    return Outcome(differences).loss


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

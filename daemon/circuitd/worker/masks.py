"""Masks: what an `ablate` request wants ablated, as the codes and cuts of a sweep.

Every mask starts from the request's base: the whole model, or the circuit it says to `keep`.
Masks are made one at a time, since thousands of them would fill memory before the first is run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from circuit_protocol import requests as wire
from circuit_protocol.errors import BadIntervention, BadShape, InvalidRequest
from circuit_protocol.replies import AblatedThing
from circuitd.circuits.ablate import CODES, EdgeCut, Mask
from circuitd.circuits.edges import edges_between
from circuitd.circuits.nodes import NodeSpace, node_space
from circuitd.engine.config import GPTConfig
from circuitd.engine.cuts import CUTTABLE
from circuitd.worker import memory
from circuitd.worker.context import Context

_CPU = torch.device("cpu")
#: What naming one edge of a sweep takes, here and in the answer.
_EDGE_NBYTES = 1024
_HEAD_SITES = ("attn.q", "attn.k", "attn.v")
_HALVES = {
    "attn": ("attn.resid_delta",),
    "mlp": ("mlp.resid_delta",),
    "both": ("attn.resid_delta", "mlp.resid_delta"),
}


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """The base, the number of masks, and each mask by its number.

    `kinds` are the ways in which base and masks ablate. `things` says what each mask of an `every`
    request ablates; it is empty for the others. `root` leaves what any mask leaves: the base, or
    less where masks come packed.
    """

    base: Mask
    n_masks: int
    at: Callable[[int], Mask]
    kinds: frozenset[wire.AblationKind]
    things: tuple[AblatedThing, ...] = ()
    root: Mask | None = None

    def masks(self, start: int = 0) -> Iterator[Mask]:
        """Masks number `start` and up."""
        return (self.at(i) for i in range(start, self.n_masks))


def read_masks(context: Context, request: wire.Ablate) -> MaskPlan:
    """The masks of `request`. Raises InvalidRequest, BadShape, BadIntervention, UnknownSite."""
    given = [
        name
        for name, present in (
            ("masks", bool(request.masks)),
            ("packed", request.packed is not None),
            ("every", request.every is not None),
        )
        if present
    ]
    if len(given) > 1 or (not given and request.keep is None):
        raise InvalidRequest(
            "an ablation needs exactly one of `masks`, `packed` and `every`",
            found=" and ".join(given) or "none",
            hint="With `keep` alone, the answer is that circuit's loss",
        )
    space = node_space(context.model.config)
    code = CODES[request.kind]
    codes = np.zeros(space.n_nodes, dtype=np.uint8)
    if request.keep is not None:
        codes[~space.mask((part.site, part.channels) for part in request.keep)] = code
    base = Mask(codes)
    if request.packed is not None:
        return _packed(context, request, base, space)
    if request.every is not None:
        return _every(context, request, request.every, base)
    nodes_of = functools.cache(functools.partial(_nodes, context.model.config))
    declared = [_declared(context, mask, base, code, nodes_of) for mask in request.masks]
    kinds: set[wire.AblationKind] = {
        part.kind or request.kind for mask in request.masks for part in mask
    }
    if codes.any():
        kinds.add(request.kind)
    return MaskPlan(base, len(declared), lambda i: declared[i](), frozenset(kinds))


def _packed(context: Context, request: wire.Ablate, base: Mask, space: NodeSpace) -> MaskPlan:
    assert request.packed is not None  # the caller has seen it
    kept = context.array(request.packed)
    if kept.dtype != np.bool_ or kept.ndim != 2 or kept.shape[1] != space.n_nodes:
        raise BadShape(
            "packed masks must be BOOL [masks, nodes of the model]",
            asked=f"{request.packed.dtype} {list(kept.shape)}",
            found=f"a model of {space.n_nodes} nodes",
            hint="Nodes are numbered in the order of the node sites that models.describe lists",
        )
    code = CODES[request.kind]

    def lay_out(row: np.ndarray) -> Mask:
        return Mask(np.where(row, base.codes, code).astype(np.uint8))

    kinds: frozenset[wire.AblationKind] = frozenset({request.kind})
    root = lay_out(np.logical_or.reduce(kept)) if len(kept) else base
    return MaskPlan(base, len(kept), lambda i: lay_out(kept[i]), kinds, root=root)


def _declared(
    context: Context,
    ablations: tuple[wire.Ablation, ...],
    base: Mask,
    code: int,
    nodes_of: Callable[[wire.Ablation], np.ndarray],
) -> Callable[[], Mask]:
    """A mask from the ablations it combines; checked now, laid out when it is wanted.

    `nodes_of` gives ablations that are alike the same array: thousands of masks share a few.
    """
    config = context.model.config
    parts: list[tuple[np.ndarray, int]] = []
    cuts: list[EdgeCut] = []
    for ablation in ablations:
        own = code if ablation.kind is None else CODES[ablation.kind]
        if isinstance(ablation, wire.AblateEdges):
            cuts += [_cut(config, edge, own) for edge in ablation.edges]
        else:
            parts.append((nodes_of(ablation), own))

    def lay_out() -> Mask:
        codes = base.codes.copy()
        for nodes, own in parts:
            codes[nodes] = own
        return Mask(codes, tuple(cuts))

    return lay_out


def _nodes(
    config: GPTConfig,
    ablation: wire.AblateNodes | wire.AblateSites | wire.AblateHeads | wire.AblateLayers,
) -> np.ndarray:
    """Numbers of the nodes that an ablation covers."""
    space = node_space(config)
    match ablation:
        case wire.AblateNodes(nodes=nodes):
            return np.flatnonzero(space.mask((part.site, part.channels) for part in nodes))
        case wire.AblateSites(site=selector):
            return _joined(space.nodes(site) for site in space.selected(selector))
        case wire.AblateHeads(layer=layer, heads=heads):
            _check_layer(config, layer)
            return _joined(_head_nodes(space, layer, head) for head in heads)
        case wire.AblateLayers(layers=layers, half=half):
            for layer in layers:
                _check_layer(config, layer)
            sites = [f"{layer}.{site}" for layer in layers for site in _HALVES[half]]
            return _joined(space.nodes(site) for site in sites)


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """All numbers in one array; none where there are no parts, which numpy would refuse."""
    return np.concatenate([np.zeros(0, dtype=np.intp), *parts])


def _head_nodes(space: NodeSpace, layer: int, head: int) -> np.ndarray:
    config = space.config
    if not 0 <= head < config.n_head:
        raise BadIntervention(
            "no such head", asked=f"head {head}", hint=f"Heads are 0 to {config.n_head - 1}"
        )
    channels = range(head * config.d_head, (head + 1) * config.d_head)
    return np.concatenate([space.nodes(f"{layer}.{site}", channels) for site in _HEAD_SITES])


def _check_layer(config: GPTConfig, layer: int) -> None:
    if not 0 <= layer < config.n_layer:
        raise BadIntervention(
            "no such layer", asked=f"layer {layer}", hint=f"Layers are 0 to {config.n_layer - 1}"
        )


def _cut(config: GPTConfig, edge: wire.Edge, code: int) -> EdgeCut:
    space = node_space(config)
    space.nodes(edge.source, [edge.source_channel])
    space.nodes(edge.target, [edge.target_channel])
    source, target = edge.source.split(".", 1), edge.target.split(".", 1)
    if source[0] != target[0] or (source[1], target[1]) not in CUTTABLE:
        allowed = ", ".join(f"{a} -> {b}" for a, b in CUTTABLE)
        raise BadIntervention(
            "no weight joins these sites",
            asked=f"{edge.source} -> {edge.target}",
            hint=f"Edges, in one layer: {allowed}",
        )
    return EdgeCut(edge.source, edge.source_channel, edge.target, edge.target_channel, code)


def _every(context: Context, request: wire.Ablate, every: wire.Every, base: Mask) -> MaskPlan:
    """One mask per node, edge, head, layer or site, among the nodes the base keeps."""
    config, weights = context.model.config, context.model.weights
    space, code = node_space(config), CODES[request.kind]
    among = base.codes == 0
    if every.nodes is not None:
        among &= space.mask((part.site, part.channels) for part in every.nodes)
    things: list[AblatedThing] = []
    groups: list[np.ndarray] = []
    cuts: list[EdgeCut] = []
    match every.of:
        case "node":
            for node in np.flatnonzero(among):
                site, channel = space.describe(int(node))
                things.append(AblatedThing(site=site, channel=channel))
                groups.append(np.array([node]))
        case "edge":
            n_edges = sum(len(edges) for edges in edges_between(weights, among))
            memory.require(_CPU, _EDGE_NBYTES * n_edges, f"a sweep over {n_edges} edges")
            for edges in edges_between(weights, among):
                for i in range(len(edges)):
                    source, target = int(edges.source_channels[i]), int(edges.target_channels[i])
                    cuts.append(EdgeCut(edges.source, source, edges.target, target, code))
                    edge = wire.Edge(
                        source=edges.source,
                        source_channel=source,
                        target=edges.target,
                        target_channel=target,
                    )
                    things.append(AblatedThing(edge=edge))
        case "head":
            for layer in range(config.n_layer):
                for head in range(config.n_head):
                    nodes = _head_nodes(space, layer, head)
                    if among[nodes].any():
                        things.append(AblatedThing(layer=layer, head=head))
                        groups.append(nodes[among[nodes]])
        case "layer":
            for layer in range(config.n_layer):
                nodes = _nodes(config, wire.AblateLayers(layers=(layer,)))
                if among[nodes].any():
                    things.append(AblatedThing(layer=layer))
                    groups.append(nodes[among[nodes]])
        case "site":
            for site in space.sites:
                nodes = space.nodes(site.name)
                if among[nodes].any():
                    things.append(AblatedThing(site=site.name))
                    groups.append(nodes[among[nodes]])
    if not things:
        raise InvalidRequest(
            f"there is no {every.of} to ablate in turn",
            found=f"{int(among.sum())} nodes to look at",
        )

    def at(i: int) -> Mask:
        if cuts:
            return Mask(base.codes, (cuts[i],))
        codes = base.codes.copy()
        codes[groups[i]] = code
        return Mask(codes)

    return MaskPlan(base, len(things), at, frozenset({request.kind}), tuple(things))

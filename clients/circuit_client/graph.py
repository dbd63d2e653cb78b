"""A circuit as a graph: its kept nodes row by row in the order of the pass, and its edges.

What pictures, tables and files are made from. Pure: a `CircuitShown` in, values out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.interventions import NodeSet

#: Node sites of a layer in the order of the pass.
KINDS = (
    "attn.act_in",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.resid_delta",
    "mlp.act_in",
    "mlp.post_act",
    "mlp.resid_delta",
)
#: Sites whose channels are `head * d_head + channel`.
HEAD_KINDS = ("attn.q", "attn.k", "attn.v")
_STREAM_READERS = ("attn.act_in", "mlp.act_in")
_STREAM_WRITERS = ("attn.resid_delta", "mlp.resid_delta")
_LAYER_SITE = re.compile(r"(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Place:
    """A site taken apart: `layer` None is after the last layer."""

    layer: int | None
    kind: str

    @property
    def half(self) -> str:
        """Half block, `attn` or `mlp`; empty outside the layers."""
        return self.kind.partition(".")[0] if self.layer is not None else ""

    @property
    def order(self) -> tuple[float, int, str]:
        """Sorts places in the order of the pass, unknown kinds after the known ones."""
        rank = KINDS.index(self.kind) if self.kind in KINDS else len(KINDS)
        return (float("inf") if self.layer is None else self.layer, rank, self.kind)


def place_of(site: str) -> Place:
    """Where `site` is."""
    match = _LAYER_SITE.fullmatch(site)
    return Place(None, site) if match is None else Place(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class Node:
    """A kept node. `delta` is what ablating it alone adds to the circuit's loss, in nats."""

    site: str
    channel: int
    delta: float | None = None
    head: int | None = None
    #: The channel within its head; the channel itself where there are no heads.
    within: int = 0

    @property
    def name(self) -> str:
        """The node in the notation of nodes."""
        return f"{self.site}[{self.channel}]"

    @property
    def label(self) -> str:
        """The channel as a person reads it: head.channel where there are heads."""
        return str(self.channel) if self.head is None else f"{self.head}.{self.within}"


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """An edge: indices of its nodes, the weight, and what cutting it alone adds to the loss."""

    source: int
    target: int
    weight: float
    delta: float | None = None

    @property
    def strength(self) -> tuple[float, float]:
        """Sorts edges: by the delta's size, then by the weight's."""
        return (abs(self.delta or 0.0), abs(self.weight))


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of the pass, edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[GraphEdge, ...]
    #: Half blocks by (layer, half): what ablating all their nodes adds to the loss, in nats.
    layer_deltas: dict[tuple[int, str], float]
    #: Whether the edges are known: a circuit that was never measured has only their number.
    has_edges: bool

    @cached_property
    def index(self) -> dict[tuple[str, int], int]:
        """Index of each node by site and channel."""
        return {(n.site, n.channel): i for i, n in enumerate(self.nodes)}

    @cached_property
    def by_site(self) -> dict[str, list[int]]:
        """Indices of each site's nodes, sites in the order of the pass."""
        found: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            found.setdefault(node.site, []).append(i)
        return found

    @cached_property
    def has_deltas(self) -> bool:
        """Whether the nodes' deltas are known."""
        return any(n.delta is not None for n in self.nodes)

    @cached_property
    def degrees(self) -> list[tuple[int, int]]:
        """Edges into and out of each node."""
        into, out = [0] * len(self.nodes), [0] * len(self.nodes)
        for edge in self.edges:
            into[edge.target] += 1
            out[edge.source] += 1
        return list(zip(into, out, strict=True))

    @cached_property
    def carried(self) -> tuple[tuple[int, int], ...]:
        """What the residual stream carries: writer to reader of one channel.

        These are no edges by the counting rule, but without them a picture falls apart at each half
        block. Each reader is joined to the last writer before it, each writer to the first reader
        after it; what else passes along a channel follows from these.
        """
        found: set[tuple[int, int]] = set()
        last_writer: dict[int, int] = {}
        unread: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            place = place_of(node.site)
            if place.layer is None or place.kind in _STREAM_READERS:
                found.update((writer, i) for writer in unread.pop(node.channel, ()))
                if node.channel in last_writer:
                    found.add((last_writer[node.channel], i))
            elif place.kind in _STREAM_WRITERS:
                last_writer[node.channel] = i
                unread.setdefault(node.channel, []).append(i)
        return tuple(sorted(found))


def strongest_first(graph: Graph, nodes: Iterable[int]) -> list[int]:
    """Node indices, the largest deltas first; in their order where none are known."""
    return sorted(nodes, key=lambda i: -abs(graph.nodes[i].delta or 0.0))


def graph_of(shown: CircuitShown, *, d_head: int | None = None) -> Graph:
    """The graph of a circuit. `d_head` splits the channels of q, k and v into head and channel."""
    details = shown.details
    deltas: dict[tuple[str, int], float] = {}
    for group in details.nodes if details else ():
        deltas |= {(group.site, c): d for c, d in zip(group.channels, group.deltas, strict=True)}
    kept = sorted(
        ((s.site, c) for s in shown.circuit.nodes for c in s.channels or ()),
        key=lambda n: (place_of(n[0]).order, n[1]),
    )
    nodes = tuple(
        _node(site, channel, deltas.get((site, channel)), d_head) for site, channel in kept
    )
    index = {(n.site, n.channel): i for i, n in enumerate(nodes)}
    edges: list[GraphEdge] = []
    for group in details.edges if details else ():
        ends = zip(group.source_channels, group.target_channels, group.weights, strict=True)
        for i, (source, target, weight) in enumerate(ends):
            a, b = index.get((group.source, source)), index.get((group.target, target))
            if a is not None and b is not None:
                edges.append(GraphEdge(a, b, weight, group.deltas[i] if group.deltas else None))
    layers = {(x.layer, x.half): x.delta for x in details.layers} if details else {}
    has_edges = bool(edges) or shown.circuit.measured.n_edges == 0
    return Graph(nodes, tuple(edges), layers, has_edges)


def _node(site: str, channel: int, delta: float | None, d_head: int | None) -> Node:
    if d_head and place_of(site).kind in HEAD_KINDS:
        return Node(site, channel, delta, *divmod(channel, d_head))
    return Node(site, channel, delta, None, channel)


def layers_with_heads(nodes: NodeSet) -> tuple[int, ...]:
    """Layers of which a query, key or value is kept, ascending."""
    places = (place_of(group.site) for group in nodes)
    found = {p.layer for p in places if p.layer is not None and p.kind in HEAD_KINDS}
    return tuple(sorted(found))


def retained_heads(nodes: NodeSet, layer: int, d_head: int, n_head: int) -> tuple[int, ...]:
    """Heads of `layer` of which a query, key or value is kept, ascending."""
    found: set[int] = set()
    for group in nodes:
        place = place_of(group.site)
        if place.layer == layer and place.kind in HEAD_KINDS:
            channels = range(d_head * n_head) if group.channels is None else group.channels
            found.update(c // d_head for c in channels)
    return tuple(sorted(h for h in found if h < n_head))

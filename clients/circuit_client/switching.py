"""Parts of a circuit that are switched off or added: nodes, heads, half blocks and edges.

A `Switched` is a value. It can be said as interventions (what a shared session carries, without
edges and added nodes, which are none), read back from them, and applied to a circuit: `kept` says
which nodes are then left, `dropped` what `circuits.edit` has to drop and add for that.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from circuit_client.graph import HEAD_KINDS, Place, place_of
from circuit_protocol.interventions import (
    Intervention,
    Mean,
    NodeSet,
    Resample,
    SiteChannels,
    Zero,
)
from circuit_protocol.messages import AblationKind, Edge


class NodeId(NamedTuple):
    """A channel of a site."""

    site: str
    channel: int


class HeadId(NamedTuple):
    """An attention head: its queries, keys and values."""

    layer: int
    head: int


class HalfId(NamedTuple):
    """A half block of a layer."""

    layer: int
    half: Literal["attn", "mlp"]


class EdgeId(NamedTuple):
    """A weight from one node to another."""

    source: NodeId
    target: NodeId


Part = NodeId | HeadId | HalfId | EdgeId

_OPS: Final[dict[AblationKind, type[Zero] | type[Mean] | type[Resample]]] = {
    "zero": Zero,
    "mean": Mean,
    "resample": Resample,
}


@dataclass(frozen=True, slots=True)
class Switched:
    """What is off and what is added. `kind` is what parts that are off are held at; None: what the
    circuit holds the rest at.
    """

    off: frozenset[Part] = frozenset()
    added: frozenset[NodeId] = frozenset()
    kind: AblationKind | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether the circuit is as it was found."""
        return not self.off and not self.added

    def toggled(self, parts: Iterable[Part]) -> "Switched":
        """All `parts` off, or on again if all of them were off."""
        wanted = frozenset(parts)
        off = self.off - wanted if wanted <= self.off else self.off | wanted
        return replace(self, off=off)

    def grown(self, nodes: Iterable[NodeId]) -> "Switched":
        """All `nodes` added, or none of them if all of them were."""
        wanted = frozenset(nodes)
        is_there = wanted <= self.added
        return replace(self, added=self.added - wanted if is_there else self.added | wanted)


NONE_SWITCHED: Final = Switched()


def as_interventions(switched: Switched) -> tuple[Intervention, ...]:
    """What a session says of it; edges and added nodes stay unsaid."""
    op = _OPS[switched.kind or "mean"]
    by_site: dict[str, list[int]] = {}
    said: list[Intervention] = []
    for part in sorted(switched.off, key=_order):
        match part:
            case NodeId(site=site, channel=channel):
                by_site.setdefault(site, []).append(channel)
            case HeadId(layer=layer, head=head):
                said += [op(site=f"{layer}.{kind}", heads=(head,)) for kind in HEAD_KINDS]
            case HalfId(layer=layer, half=half):
                said.append(op(site=f"{layer}.{half}.resid_delta"))
            case EdgeId():
                pass
    return (*(op(site=site, channels=tuple(c)) for site, c in by_site.items()), *said)


def read_switched(
    interventions: Iterable[Intervention],
) -> tuple[Switched, tuple[Intervention, ...]]:
    """What of `interventions` is a switching, and what is not."""
    off: set[Part] = set()
    rest: list[Intervention] = []
    heads: dict[HeadId, set[str]] = {}
    kind: AblationKind | None = None
    for one in interventions:
        parts = _parts_of(one)
        if parts is None:
            rest.append(one)
            continue
        kind = kind or next(k for k, op in _OPS.items() if type(one) is op)
        for part in parts:
            if isinstance(part, HeadId):
                heads.setdefault(part, set()).add(place_of(one.site).kind)
        off.update(parts)
    return Switched(frozenset(off), kind=None if kind == "mean" else kind), tuple(rest)


def _parts_of(one: Intervention) -> list[Part] | None:
    """The parts that an intervention switches off; None if it does something else."""
    if type(one) not in _OPS.values() or one.positions is not None or one.rows is not None:
        return None
    place = place_of(one.site)
    if one.channels is not None and one.heads is None:
        return [NodeId(one.site, c) for c in one.channels]
    if one.heads is not None and place.kind in HEAD_KINDS and place.layer is not None:
        return [HeadId(place.layer, h) for h in one.heads]
    if one.heads is None and place.layer is not None and place.kind.endswith(".resid_delta"):
        return [HalfId(place.layer, "attn" if place.half == "attn" else "mlp")]
    return None


def _order(part: Part) -> tuple[int, str]:
    rank = (NodeId, HeadId, HalfId, EdgeId).index(type(part))
    return rank, repr(part)


def off_nodes(switched: Switched, nodes: NodeSet, d_head: int | None) -> frozenset[NodeId]:
    """Which of `nodes` are off: by themselves, with their head, or with their half block."""
    off: set[NodeId] = set()
    for group in nodes:
        place = place_of(group.site)
        half = _half_of(place)
        for channel in group.channels or ():
            node = NodeId(group.site, channel)
            head = (
                HeadId(place.layer, channel // d_head)
                if d_head and place.kind in HEAD_KINDS and place.layer is not None
                else None
            )
            if node in switched.off or half in switched.off or head in switched.off:
                off.add(node)
    return frozenset(off)


def _half_of(place: Place) -> HalfId | None:
    if place.layer is None:
        return None
    return HalfId(place.layer, "attn" if place.half == "attn" else "mlp")


def kept(switched: Switched, nodes: NodeSet, d_head: int | None) -> NodeSet:
    """The nodes that are left on, with those that were added."""
    off = off_nodes(switched, nodes, d_head)
    on = {NodeId(g.site, c) for g in nodes for c in g.channels or ()} - off
    return node_set(on | (switched.added - switched.off))


def node_set(nodes: Iterable[NodeId]) -> NodeSet:
    """Nodes as the protocol has them: sites in the order of the pass, channels ascending."""
    by_site: dict[str, list[int]] = {}
    for node in nodes:
        by_site.setdefault(node.site, []).append(node.channel)
    return tuple(
        SiteChannels(site=site, channels=tuple(sorted(by_site[site])))
        for site in sorted(by_site, key=lambda s: place_of(s).order)
    )


def off_edges(switched: Switched) -> tuple[Edge, ...]:
    """The edges that are cut by themselves."""
    edges = sorted(p for p in switched.off if isinstance(p, EdgeId))
    return tuple(
        Edge(
            source=e.source.site,
            source_channel=e.source.channel,
            target=e.target.site,
            target_channel=e.target.channel,
        )
        for e in edges
    )

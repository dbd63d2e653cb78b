"""Requests about stored circuits that need no model: list, show, delete, compare.

They only read and remove files, which is done in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from circuit_protocol import circuit_requests as cq
from circuit_protocol import requests as r
from circuit_protocol.circuit_replies import (
    CircuitDiff,
    CircuitList,
    CircuitShown,
    ImportanceChange,
)
from circuit_protocol.circuits import CircuitDetails, EdgeGroup
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.interventions import NodeSet, SiteChannels
from circuit_protocol.messages import Edge
from circuit_protocol.replies import Done
from circuitd.server.replies import OpenRequest
from circuitd.store.circuits import CircuitStore, StoredCircuit

if TYPE_CHECKING:
    from circuitd.server.front import Front, Handler

#: A node: site and channel.
_Node = tuple[str, int]


async def list_circuits(front: Front, entry: OpenRequest, request: cq.ListCircuits) -> None:
    """The catalogue, filtered."""
    found = await asyncio.to_thread(
        front.circuits.summaries,
        model=request.model,
        task=request.task,
        sweep=request.sweep,
        k=request.k,
        limit=request.limit,
    )
    front.reply(entry, CircuitList(id=request.id, circuits=found))


async def show(front: Front, entry: OpenRequest, request: cq.ShowCircuit) -> None:
    """One circuit as stored."""
    stored = await asyncio.to_thread(front.circuits.get, request.circuit, model=request.model)
    front.reply(
        entry,
        CircuitShown(
            id=request.id,
            summary=stored.summary,
            circuit=stored.circuit,
            details=stored.details,
            card=stored.card,
        ),
    )


async def delete(front: Front, entry: OpenRequest, request: cq.DeleteCircuit) -> None:
    """Remove a circuit's files."""
    await asyncio.to_thread(front.circuits.delete, request.circuit, model=request.model)
    front.reply(entry, Done(id=request.id))


async def diff(front: Front, entry: OpenRequest, request: cq.DiffCircuits) -> None:
    """What two circuits of one model have in common and have not."""
    before, after = await asyncio.to_thread(_both, front.circuits, request)
    front.reply(entry, compared(request.id, before, after))


def _both(store: CircuitStore, request: cq.DiffCircuits) -> tuple[StoredCircuit, StoredCircuit]:
    before = store.get(request.before, model=request.model)
    return before, store.get(request.after, model=request.model)


def compared(request_id: str, before: StoredCircuit, after: StoredCircuit) -> CircuitDiff:
    """The comparison. Raises InvalidRequest for circuits of different models."""
    if before.circuit.model_hash != after.circuit.model_hash:
        raise InvalidRequest(
            "these circuits belong to different models",
            asked=f"{before.circuit.model}, hash {before.circuit.model_hash}",
            found=f"{after.circuit.model}, hash {after.circuit.model_hash}",
            hint="Nodes of one model mean nothing in another",
        )
    old, new = before.circuit.nodes, after.circuit.nodes
    sites = _merged([part.site for part in old], [part.site for part in new])
    had, has = set(_nodes(old)), set(_nodes(new))
    edges = _edges(before), _edges(after)
    old_edges, new_edges = (found or set() for found in edges)
    known = None not in edges
    return CircuitDiff(
        id=request_id,
        before=before.summary,
        after=after.summary,
        added=_node_set(has - had, sites),
        removed=_node_set(had - has, sites),
        shared=_node_set(had & has, sites),
        added_edges=_in_order(new_edges - old_edges, sites) if known else (),
        removed_edges=_in_order(old_edges - new_edges, sites) if known else (),
        edges_known=known,
        jaccard=len(had & has) / len(had | has) if had | has else 1.0,
        loss_change=after.circuit.measured.loss - before.circuit.measured.loss,
        changes=tuple(_changes(before.details, after.details)),
    )


def _merged(one: list[str], other: list[str]) -> dict[str, int]:
    """Sites of two lists that are in the model's order, each with its place in that order."""
    place = {site: i for i, site in enumerate(other)}
    merged: list[str] = []
    done = 0
    for site in one:
        if site in place:
            merged += [s for s in other[done : place[site]] if s not in one]
            done = place[site] + 1
        merged.append(site)
    merged += [s for s in other[done:] if s not in one]
    return {site: i for i, site in enumerate(merged)}


def _nodes(nodes: NodeSet) -> Iterator[_Node]:
    return ((part.site, channel) for part in nodes for channel in part.channels or ())


def _node_set(nodes: Iterable[_Node], sites: Mapping[str, int]) -> NodeSet:
    by_site: dict[str, list[int]] = {}
    for site, channel in sorted(nodes, key=lambda node: (sites[node[0]], node[1])):
        by_site.setdefault(site, []).append(channel)
    return tuple(
        SiteChannels(site=site, channels=tuple(channels)) for site, channels in by_site.items()
    )


def _edges(stored: StoredCircuit) -> set[Edge] | None:
    """The circuit's edges; None if it was stored without them."""
    groups = stored.details.edges if stored.details is not None else ()
    edges = {edge for group in groups for edge in _edges_of(group)}
    return edges if len(edges) == stored.circuit.measured.n_edges else None


def _edges_of(group: EdgeGroup) -> Iterator[Edge]:
    for source, target in zip(group.source_channels, group.target_channels, strict=True):
        yield Edge(
            source=group.source, source_channel=source, target=group.target, target_channel=target
        )


def _in_order(edges: Iterable[Edge], sites: Mapping[str, int]) -> tuple[Edge, ...]:
    def key(edge: Edge) -> tuple[int, int, int, int]:
        return (
            sites.get(edge.source, len(sites)),
            sites.get(edge.target, len(sites)),
            edge.source_channel,
            edge.target_channel,
        )

    return tuple(sorted(edges, key=key))


def _changes(
    before: CircuitDetails | None, after: CircuitDetails | None
) -> Iterator[ImportanceChange]:
    """Nodes of both whose deltas differ, the largest change first."""
    old, new = _deltas(before), _deltas(after)
    both = [node for node in old if node in new and old[node] != new[node]]
    for node in sorted(both, key=lambda node: -abs(new[node] - old[node])):
        yield ImportanceChange(site=node[0], channel=node[1], before=old[node], after=new[node])


def _deltas(details: CircuitDetails | None) -> dict[_Node, float]:
    return {
        (part.site, channel): delta
        for part in (details.nodes if details is not None else ())
        for channel, delta in zip(part.channels, part.deltas, strict=False)
    }


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    cq.ListCircuits: list_circuits,
    cq.ShowCircuit: show,
    cq.DeleteCircuit: delete,
    cq.DiffCircuits: diff,
}

"""Requests for held tensors: their bytes in chunks, with credit, straight from the mapped file.

A client of the local socket may also be told where that file is, and map it itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from circuit_protocol import requests as r
from circuit_protocol.errors import CircuitError, Forbidden
from circuit_protocol.replies import Chunk, Done, Mapped
from circuit_protocol.version import MAP_TENSOR
from circuitd.server.fetches import Fetch
from circuitd.server.replies import OpenRequest

if TYPE_CHECKING:
    from circuitd.server.front import Client, Front, Handler


@dataclass(slots=True)
class RunningFetch:
    """A fetch that waits for credit or for the client to read. `view` keeps the file mapped."""

    entry: OpenRequest
    plan: Fetch
    view: memoryview


def fetch(front: Front, entry: OpenRequest, request: r.Fetch) -> None:
    """Begin to send a tensor's bytes. Nothing is read here: the kernel pages them in as they go."""
    segment = front.cache.leases.use(entry.client, request.handle, front.dispatcher.clock())
    plan = Fetch(
        segment.nbytes,
        offset=request.offset,
        nbytes=request.nbytes,
        chunk_nbytes=request.chunk_nbytes,
        credit=request.credit,
    )
    client = front.clients[entry.client]
    client.fetches[entry.request_id] = RunningFetch(entry, plan, front.cache.segments.open(segment))

    def stop(error: CircuitError) -> None:
        client.fetches.pop(entry.request_id, None)
        front.fail(entry, error)

    entry.stop = stop
    send_chunks(front, client, entry.request_id)


def credit(front: Front, client: Client, request: r.Credit) -> None:
    """The client has room for more chunks; for a fetch that has ended this means nothing."""
    running = client.fetches.get(request.id)
    if running is not None:
        running.plan.grant(request.chunks)
        send_chunks(front, client, request.id)


def send_chunks(front: Front, client: Client, request_id: str) -> None:
    """Send what credit and the client's outbox allow of one fetch."""
    running = client.fetches.get(request_id)
    if running is None:
        return
    while not client.port.has_backlog(client.peer):
        span = running.plan.take()
        if span is None:
            return
        if span.final:
            del client.fetches[request_id]
        chunk = Chunk(id=request_id, final=span.final, offset=span.offset, nbytes=span.nbytes)
        data = running.view[span.offset : span.offset + span.nbytes]
        front.reply(running.entry, chunk, [data])


def map_tensor(front: Front, entry: OpenRequest, request: r.MapTensor) -> None:
    """Say where a tensor's file is, to a client that came over the local socket.

    Its lease keeps the file until it has opened it; what it has mapped then outlives the lease.
    """
    if MAP_TENSOR not in front.capabilities(entry.client):
        raise Forbidden(
            "only a client of the local socket may map a tensor's file",
            asked=request.handle[:80],
            hint="Use tensor.fetch",
        )
    segment = front.cache.leases.use(entry.client, request.handle, front.dispatcher.clock())
    path = front.cache.segments.locate(segment)
    front.reply(entry, Mapped(id=request.id, path=str(path), nbytes=segment.nbytes))


def release(front: Front, entry: OpenRequest, request: r.Release) -> None:
    """End this client's leases; handles it does not lease are no error."""
    ended, dead = front.cache.leases.release(entry.client, request.handles)
    front.cache.delete(dead)
    front.reply(entry, Done(id=request.id, changed=ended > 0))


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    r.Fetch: fetch,
    r.MapTensor: map_tensor,
    r.Release: release,
}

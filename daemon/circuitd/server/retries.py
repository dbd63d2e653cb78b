"""Requests with an idempotency key: the first try is carried out, later ones get its answer.

If the first try goes with its client, a retry that waits for it takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from circuit_protocol import requests as r
from circuit_protocol.errors import Cancelled, CircuitError
from circuit_protocol.tensors import Frame
from circuitd.server.idempotency import Idempotency, Principal, Remembered
from circuitd.server.question import request_digest
from circuitd.server.replies import OpenRequest, reply_type, rewritten
from circuitd.server.router_port import Message

if TYPE_CHECKING:
    from circuitd.server.front import Client, Front


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that waits for another one's answer, and all it takes to carry it out instead."""

    entry: OpenRequest
    client: Client
    request: r.AnyRequest
    message: Message


class Retries:
    """What came of requests that have a key."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.idempotency: Idempotency[Retry] = Idempotency()
        #: The frames of each first try that still runs; a retry's are the same, and not kept.
        self._frames: dict[tuple[Principal, str], tuple[Frame, ...]] = {}

    def is_first(self, retry: Retry, now: float) -> bool:
        """Whether to carry out a request that has a key; if not, it is or will be answered."""
        entry, principal = retry.entry, retry.client.principal
        key = retry.request.idempotency_key or ""
        frames = retry.message.frames
        digest = request_digest(retry.request, frames)
        frames = self._frames.get((principal, key), frames)
        retry = replace(retry, message=replace(retry.message, frames=frames))
        found = self.idempotency.begin(principal, key, digest, retry, now)
        if found is None:
            self._frames[principal, key] = frames
            entry.on_final = lambda header, frames, error: self._ended(
                principal, key, header, frames, error
            )
            return True
        if isinstance(found, Remembered):
            self._repeat(entry, found.header, found.frames)
        else:
            entry.stop = lambda error: self._front.fail(entry, error)
            self._front.watch_deadline(entry, retry.request)
        return False

    def _ended(
        self,
        principal: Principal,
        key: str,
        header: bytes,
        frames: tuple[Frame, ...],
        error: CircuitError | None,
    ) -> None:
        """A first try has its final reply; `header` is empty if its client left without one."""
        del self._frames[principal, key]
        if error is not None and (error.retry or isinstance(error, Cancelled)):
            waiting = self.idempotency.forget(principal, key)
        else:
            waiting = self.idempotency.finish(principal, key, header, frames)
        for retry in waiting:
            if header:
                self._repeat(retry.entry, header, frames)
            elif self._front.book.is_open(retry.entry):
                retry.entry.stop = None
                self._front.carry_out(retry.entry, retry.client, retry.request, retry.message)

    def _repeat(self, entry: OpenRequest, header: bytes, frames: tuple[Frame, ...]) -> None:
        """Answer with another request's final reply; nothing happens if `entry` has ended."""
        header = rewritten(header, request_id=entry.request_id)
        failed = reply_type(header) == "error"
        self._front.pass_on(entry, header, frames, final=True, error=failed)

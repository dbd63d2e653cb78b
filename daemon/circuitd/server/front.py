"""The heart of the front: a message comes in, is understood or refused, reaches its answerer.

This is the one loop that must go on: whatever a handler raises becomes a typed error for its
client, and nothing a client sends can stop the others. Everything that is decided elsewhere (who
waits, what is loaded, who is told) hangs together here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import zmq
from msgspec.structs import replace

from circuit_protocol import requests as r
from circuit_protocol.codec import UNKNOWN_ID, decode_reply, decode_request, encode, peek_id
from circuit_protocol.errors import (
    Busy,
    Cancelled,
    CircuitError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ShuttingDown,
    TooLarge,
    from_info,
)
from circuit_protocol.keys import KeyPair
from circuit_protocol.replies import Failed, Reply
from circuit_protocol.tensors import Frame
from circuit_protocol.version import MAP_TENSOR
from circuitd.server import model_requests
from circuitd.server.answer_cache import AnswerCache
from circuitd.server.artefacts import Artefacts
from circuitd.server.asker import Asker
from circuitd.server.dispatch import Dispatcher
from circuitd.server.idempotency import Principal
from circuitd.server.jobs import Jobs
from circuitd.server.replies import OpenRequest, ReplyBook, reply_type, rewritten
from circuitd.server.retries import Retries, Retry
from circuitd.server.router_port import Message, Peer, RouterPort
from circuitd.server.routing import ROUTES
from circuitd.server.scheduler import ClientId
from circuitd.server.sessions import Sessions
from circuitd.server.supervisor import Supervisor
from circuitd.server.tensor_requests import RunningFetch, credit, send_chunks
from circuitd.server.validation import check_request
from circuitd.settings import Settings
from circuitd.store.circuits import CircuitStore

log = logging.getLogger(__name__)

#: How long clients have, when the daemon ends, to read what they were told last.
_LAST_WORDS_S: Final = 0.2

#: Answers one request type in the front. It replies, or leaves the request open with a `stop`.
Handler = Callable[["Front", OpenRequest, Any], Coroutine[Any, Any, None] | None]


@dataclass(slots=True)
class Client:
    """A connection that has said hello."""

    port: RouterPort
    peer: Peer
    #: The person behind it: a CURVE public key, or "local".
    principal: Principal
    name: str = ""
    fetches: dict[str, RunningFetch] = field(default_factory=dict)


class Front:
    """Clients, their open requests, and everything that answers them."""

    def __init__(
        self,
        settings: Settings,
        *,
        instance: str,
        handlers: Mapping[type[r.Request], Handler],
        dispatcher: Dispatcher,
        cache: AnswerCache,
        jobs: Jobs,
        artefacts: Artefacts,
        circuits: CircuitStore,
        task_directories: tuple[Path, ...] = (),
    ) -> None:
        self.settings = settings
        self.instance = instance
        self.started_at = time.monotonic()
        self.dispatcher = dispatcher
        self.cache = cache
        self.jobs = jobs
        self.artefacts = artefacts
        self.circuits = circuits
        self.task_directories = task_directories
        self.book = ReplyBook()
        self.sessions = Sessions()
        self.retries = Retries(self)
        self.clients: dict[ClientId, Client] = {}
        self.endpoints: list[str] = []
        #: Set by a shutdown request or a signal: accepted work is finished, no more is taken.
        self.ending: asyncio.Event = asyncio.Event()
        #: Set by a shutdown that does not drain, or a second signal: what is open is given up.
        self.ending_now: asyncio.Event = asyncio.Event()
        self._goodbye_at: float | None = None
        self._handlers = handlers
        self._ports: list[RouterPort] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.supervisor: Supervisor
        self._newcomer: Client

    # ---- ports

    def listen(
        self,
        context: zmq.Context,
        endpoint: str,
        *,
        keys: KeyPair | None = None,
    ) -> str:
        """Open a port for clients; returns the endpoint as bound."""
        number = len(self._ports)
        limits = self.settings.limits

        def client_id(peer: Peer) -> ClientId:
            return bytes((number,)) + peer

        port = RouterPort(
            context,
            on_message=lambda message: self._received(client_id(message.peer), port, message),
            on_gone=lambda peer, reason: self._client_gone(client_id(peer), reason),
            on_drained=lambda peer: self._drained(client_id(peer)),
            frame_nbytes=limits.frame_nbytes,
            message_nbytes=limits.message_nbytes,
            max_frames=limits.frames,
            keys=keys,
        )
        self._ports.append(port)
        bound = port.bind(endpoint)
        self.endpoints.append(bound)
        return bound

    async def say_goodbye(self) -> None:
        """Answer what is still open, and from now on everything, with ShuttingDown."""
        self._goodbye_at = self._loop.time()
        self.jobs.is_ending = True
        for entry in list(self.book):
            self.fail(entry, _ending())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.dispatcher.close()

    async def close(self) -> None:
        """Close the ports, once clients have had a moment to read the last replies.

        A client's socket that is `IMMEDIATE` throws away what it has not read when its line ends.
        """
        since_s = self._loop.time() - (self._goodbye_at or 0.0)
        if self.clients and since_s < _LAST_WORDS_S:
            await asyncio.sleep(_LAST_WORDS_S - since_s)
        for port in self._ports:
            port.close(linger_s=_LAST_WORDS_S)

    # ---- a message

    def _received(self, client_id: ClientId, port: RouterPort, message: Message) -> None:
        entry: OpenRequest | None = None
        request_id = UNKNOWN_ID
        try:
            if message.overflow:
                request_id = peek_id(message.header) or UNKNOWN_ID
                raise TooLarge(
                    "the message is too long",
                    asked=f"{message.nbytes} bytes",
                    hint=f"Limits: {self.settings.limits.message_nbytes} bytes, "
                    f"{self.settings.limits.frames} frames",
                )
            try:
                request = decode_request(message.header)
            except CircuitError:
                request_id = peek_id(message.header) or UNKNOWN_ID
                raise
            request_id = request.id
            client = self.clients.get(client_id)
            if client is None:
                if not isinstance(request, r.Hello):
                    raise InvalidRequest(
                        "the first message on a connection must be hello", asked=_tag(request)
                    )
                client = Client(port, message.peer, port.user_id(message.peer) or "local")
            if self._goodbye_at is not None:
                raise _ending()
            if isinstance(request, r.Credit):
                credit(self, client, request)
                return
            self._check_bound(client_id, request)
            now = self._loop.time()
            entry = self.book.open(client_id, request.id, _tag(request), now)
            check_request(request, message.frames, self.settings.limits)
            self._newcomer = client
            self._answer(entry, client, request, message)
        except Exception as error:
            self._refuse(port, message.peer, entry, request_id, error)

    def _check_bound(self, client_id: ClientId, request: r.AnyRequest) -> None:
        """Raise Busy for a client with too much in flight; what ends some of it is let through."""
        if isinstance(request, r.Cancel):
            return
        if self.book.of_client(client_id) >= self.settings.limits.queued_requests:
            raise Busy(
                "too many unfinished requests of this client",
                found=f"{self.settings.limits.queued_requests}",
                retry_after_s=self.dispatcher.scheduler.run_s,
            )

    def carry_out(
        self, entry: OpenRequest, client: Client, request: r.AnyRequest, message: Message
    ) -> None:
        """Answer a request that is open already; whatever is wrong with it becomes its reply."""
        try:
            self._answer(entry, client, request, message)
        except Exception as error:
            self._refuse(client.port, client.peer, entry, entry.request_id, error)

    def _answer(
        self, entry: OpenRequest, client: Client, request: r.AnyRequest, message: Message
    ) -> None:
        if request.idempotency_key is not None:
            retry = Retry(entry, client, request, message)
            if not self.retries.is_first(retry, self._loop.time()):
                return
        if ROUTES[type(request)] == "front":
            outcome = self._handlers[type(request)](self, entry, request)
            if outcome is not None:
                self.spawn(entry, outcome)
            self.watch_deadline(entry, request)
            return
        if self.ending.is_set():
            raise _ending()
        if isinstance(request, r.PackModel | r.UnpackModel):
            model_requests.check_destination(self, entry, request)
        if isinstance(request, r.ModelRequest) and request.detach:
            steps = self.jobs.accept(self, entry, request, message.header, message.frames)
            self.spawn(entry, steps)
            return
        asker = Asker(self, entry)
        number = self.dispatcher.begin(
            request, message.header, message.frames, asker, client=entry.client
        )
        entry.stop = lambda error: self.dispatcher.stop(number, error)

    def watch_deadline(self, entry: OpenRequest, request: r.Request) -> None:
        """End a request that waits in the front when its deadline has passed."""
        if request.deadline_s is not None and entry.stop is not None:
            self._loop.call_later(request.deadline_s, self._expire, entry)

    def _refuse(
        self,
        port: RouterPort,
        peer: Peer,
        entry: OpenRequest | None,
        request_id: str,
        error: Exception,
    ) -> None:
        if not isinstance(error, CircuitError):
            log.error("request %s could not be answered", request_id, exc_info=error)
            error = InternalError("a defect in circuitd", hint="`circuitd logs` has the details")
        if entry is not None:
            self.fail(entry, error)
        else:  # it never was a request of this client's, so its id may be another one's
            self.book.failed += 1
            port.send(peer, [encode(Failed(id=request_id, error=error.to_info()))])

    def capabilities(self, client_id: ClientId) -> tuple[str, ...]:
        """The optional features of the protocol that a connection has."""
        return (MAP_TENSOR,) if self._ports[client_id[0]].is_local else ()

    def welcome(self, entry: OpenRequest, name: str) -> None:
        """The hello that is being answered was understood: its sender is a client from now on."""
        client = self.clients.setdefault(entry.client, self._newcomer)
        client.name = name[:100]

    # ---- replies

    def reply(self, entry: OpenRequest, reply: Reply, frames: Sequence[Frame] = ()) -> None:
        """Send a reply of the front's own; nothing happens if the request has ended already."""
        failed = isinstance(reply, Failed)
        seq = self.book.number(entry, final=reply.final, failed=failed)
        if seq is None:
            return
        header = encode(replace(reply, seq=seq) if seq else reply)
        self._send(entry, header, frames)
        if reply.final:
            error = from_info(reply.error) if isinstance(reply, Failed) else None
            self._ended(entry, header, tuple(frames), error)

    def fail(self, entry: OpenRequest, error: CircuitError) -> None:
        """End a request with an error."""
        self.reply(entry, Failed(id=entry.request_id, error=error.to_info()))

    def pass_on(
        self,
        entry: OpenRequest,
        header: bytes,
        frames: tuple[Frame, ...],
        *,
        final: bool,
        error: bool = False,
    ) -> None:
        """Send a reply somebody else encoded, renumbered if need be, progress thinned."""
        is_progress = not final and reply_type(header) == "progress"
        if is_progress and not self.book.may_report(entry, self._loop.time()):
            entry.withheld += 1
            return
        seq = self.book.number(entry, final=final, failed=error)
        if seq is None:
            return
        if entry.withheld:
            header = rewritten(header, seq=seq)
        self._send(entry, header, frames)
        if final:
            self._ended(entry, header, frames, _error_in(header) if error else None)

    def spawn(self, entry: OpenRequest, steps: Coroutine[Any, Any, None]) -> None:
        """Go on answering a request in a task; it may be stopped until it replies."""

        async def run() -> None:
            try:
                await steps
            except CircuitError as error:
                self.fail(entry, error)
            except Exception:
                log.exception("request %s could not be answered", entry.request_id)
                self.fail(entry, InternalError("a defect in circuitd"))

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if entry.stop is None:

            def stop(error: CircuitError) -> None:
                task.cancel()
                self.fail(entry, error)

            entry.stop = stop

    def _send(self, entry: OpenRequest, header: bytes, frames: Sequence[Frame]) -> None:
        port = self._ports[entry.client[0]]
        port.send(entry.client[1:], [header, *frames])

    def _ended(
        self,
        entry: OpenRequest,
        header: bytes,
        frames: tuple[Frame, ...],
        error: CircuitError | None,
    ) -> None:
        if entry.on_final is not None:
            entry.on_final(header, frames, error)

    def _expire(self, entry: OpenRequest) -> None:
        if self.book.is_open(entry) and entry.stop is not None:
            entry.stop(DeadlineExceeded("the request was not done in time"))

    # ---- clients that leave, or have room again

    def _client_gone(self, client_id: ClientId, reason: str) -> None:
        client = self.clients.pop(client_id, None)
        if client is None:
            return
        log.info("client %s has gone: %s", client.name or client.principal, reason)
        cancelled = Cancelled("its client has gone", found=reason)
        for entry in self.book.close_client(client_id):
            if entry.stop is not None:
                entry.stop(cancelled)
            self._ended(entry, b"", (), cancelled)
        self.cache.delete(self.cache.leases.release_all(client_id))

    def _drained(self, client_id: ClientId) -> None:
        client = self.clients.get(client_id)
        if client is not None:
            for request_id in list(client.fetches):
                send_chunks(self, client, request_id)


def _ending() -> ShuttingDown:
    return ShuttingDown("the daemon is about to end", hint="Connect again in a while")


def _tag(request: r.Request) -> str:
    return str(type(request).__struct_config__.tag)


def _error_in(header: bytes) -> CircuitError:
    reply = decode_reply(header)
    if isinstance(reply, Failed):
        return from_info(reply.error)
    return InternalError("a worker marked a reply as an error that is none")

"""A daemon that says what a test tells it to: a ROUTER in a thread, real sockets, no engine."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import numpy as np
import zmq
from zmq.auth.thread import ThreadAuthenticator

from circuit_protocol import replies, requests
from circuit_protocol.codec import decode_request, encode
from circuit_protocol.errors import CircuitError
from circuit_protocol.keys import KeyPair
from circuit_protocol.limits import DEFAULT_LIMITS
from circuit_protocol.sockets import ZAP_DOMAIN, configure_server
from circuit_protocol.tensors import Frame, unpack

#: A reply and its frames, without id, seq and final mattering: the daemon fills them in.
Out = replies.Reply | CircuitError | tuple[replies.Reply, list[Frame]]
#: Answers one request: yields replies, the last of which is final; yields nothing to stay silent.
Script = Callable[[Any, list[bytes]], Iterator[Out]]


def welcome(instance: str = "first", **changes: Any) -> replies.Welcome:
    fields = {
        "id": "hello",
        "version": "1.0",
        "server": "scripted",
        "instance": instance,
        "pid": 1,
        "capabilities": (),
        "limits": DEFAULT_LIMITS,
        "default_model": "tiny",
    }
    return replies.Welcome(**(fields | changes))


class ScriptedDaemon:
    """Answers by request type from `scripts`; what it has no script for, it leaves unanswered."""

    def __init__(
        self,
        endpoint: str,
        scripts: dict[type, Script] | None = None,
        *,
        instance: str = "first",
        greeting: Out | None = None,
        keys: KeyPair | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.instance = instance
        self.scripts: dict[type, Script] = {requests.Cancel: self._cancel} | (scripts or {})
        self.greeting = greeting
        self._keys = keys
        #: Every request as it arrived, for tests to wait on.
        self.seen: Queue[Any] = Queue()
        #: Requests cancelled before their final reply, to be answered so.
        self._open: dict[str, bytes] = {}
        self.held: dict[str, np.ndarray] = {}
        self._fetches: dict[tuple[bytes, str], Iterator[tuple[replies.Reply, list[Frame]]]] = {}
        self.most_uncredited = 0
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ScriptedDaemon":
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, kind: type, timeout_s: float = 30.0) -> Any:
        """The next request of type `kind`; others that come before it are dropped."""
        while True:
            request = self.seen.get(timeout=timeout_s)
            if isinstance(request, kind):
                return request

    def _run(self) -> None:
        context = zmq.Context()
        router = context.socket(zmq.ROUTER)
        if self._keys is not None:
            auth = ThreadAuthenticator(context)
            auth.start()
            auth.configure_curve_callback(ZAP_DOMAIN, credentials_provider=_Anyone())
        configure_server(router, frame_nbytes=DEFAULT_LIMITS.frame_nbytes, keys=self._keys)
        router.setsockopt(zmq.SNDHWM, 0)
        router.bind(self.endpoint)
        self._ready.set()
        try:
            while not self._stop.is_set():
                if router.poll(20):
                    identity, header, *frames = router.recv_multipart()
                    try:
                        self._answer(router, identity, header, frames)
                    except zmq.ZMQError as e:
                        if e.errno != zmq.EHOSTUNREACH:  # that client has left
                            raise
        finally:
            if self._keys is not None:
                auth.stop()
            context.destroy(linger=0)

    def _answer(self, router: zmq.Socket, identity: bytes, header: bytes, frames: list) -> None:
        request = decode_request(header)
        self.seen.put(request)
        if isinstance(request, requests.Credit):
            self._send_chunks(router, identity, request.id, request.chunks)
            return
        if isinstance(request, requests.Fetch) and type(request) not in self.scripts:
            self._fetches[identity, request.id] = self._chunks(request)
            self._send_chunks(router, identity, request.id, request.credit)
            return
        if isinstance(request, requests.Hello):
            script: Script = lambda r, f: iter([self.greeting or welcome(self.instance)])  # noqa: E731
        else:
            script = self.scripts.get(type(request), _silence)
        self._open[request.id] = identity
        for seq, out in enumerate(script(request, frames)):
            self._send(router, identity, request.id, seq, out)

    def _send(self, router: zmq.Socket, identity: bytes, id: str, seq: int, out: Out) -> None:
        body: list[Frame] = []
        if isinstance(out, CircuitError):
            out = replies.Failed(id=id, error=out.to_info())
        elif isinstance(out, tuple):
            out, body = out
        reply = msgspec.structs.replace(out, id=id, seq=seq)
        if reply.final:
            self._open.pop(id, None)
        router.send_multipart([identity, encode(reply), *body])

    def _cancel(self, request: requests.Cancel, frames: list) -> Iterator[Out]:
        yield replies.Done(id=request.id, changed=request.target in self._open)

    def _chunks(self, request: requests.Fetch) -> Iterator[tuple[replies.Reply, list[Frame]]]:
        data = memoryview(self.held[request.handle].reshape(-1).view(np.uint8).data)
        for offset in range(0, max(1, data.nbytes), request.chunk_nbytes):
            part = data[offset : offset + request.chunk_nbytes]
            final = offset + request.chunk_nbytes >= data.nbytes
            yield (
                replies.Chunk(id=request.id, offset=offset, nbytes=part.nbytes, final=final),
                [part],
            )

    def _send_chunks(self, router: zmq.Socket, identity: bytes, id: str, n: int) -> None:
        self.most_uncredited = max(self.most_uncredited, n)
        fetch = self._fetches.get((identity, id))
        for _ in range(n):
            chunk = next(fetch, None) if fetch is not None else None
            if chunk is None:
                return
            reply, body = chunk
            router.send_multipart([identity, encode(reply), *body], copy=False)


class _Anyone:
    """A ZAP credentials provider that lets every key in."""

    def callback(self, domain: str, key: bytes) -> bool:
        return True


def _silence(request: Any, frames: list) -> Iterator[Out]:
    return iter(())


def tokens_of(prompts: requests.Prompts, frames: list[bytes]) -> np.ndarray:
    assert prompts.tokens is not None
    return unpack(prompts.tokens, frames)


@contextmanager
def daemon(tmp_path: Path, scripts: dict[type, Script] | None = None, **options: Any):
    with ScriptedDaemon(f"ipc://{tmp_path}/d.sock", scripts, **options) as d:
        yield d

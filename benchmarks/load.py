"""A closed loop of clients: each asks again as soon as it is answered, for a while.

Clients are bare sockets of this process, so that the daemon is what is measured and not sixteen
Python clients on the same cores. Each says hello and then sends its own questions, over and over.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import zmq
from msgspec.structs import replace

from circuit_protocol.codec import decode_reply, encode
from circuit_protocol.messages import Request
from circuit_protocol.replies import Failed
from circuit_protocol.requests import Forward, Hello, Prompts
from circuit_protocol.sockets import configure_client
from circuit_protocol.tensors import Frame, pack
from circuit_protocol.version import PROTOCOL_VERSION

TIMEOUT_MS = 30_000


@dataclass(frozen=True, eq=False)
class Question:
    """A request and its frames; its id is replaced each time that it is sent."""

    request: Request
    frames: Sequence[Frame] = ()


def forward_of(model: str, tokens: np.ndarray) -> Question:
    """The last logits of one prompt [T]."""
    frames: list[Frame] = []
    prompts = Prompts(tokens=pack(tokens[None, :], frames))
    return Question(
        Forward(id="", model=model, prompts=prompts, logits="last", use_cache=False), frames
    )


@dataclass(eq=False)
class _Client:
    """One connection: its socket, what it asks in turn, when it last asked."""

    socket: "zmq.Socket[bytes]"
    questions: Sequence[Question]
    n_asked: int = 0
    asked_s: float = 0.0


@dataclass
class Window:
    """What a window of time saw: seconds from each request to its answer."""

    elapsed_s: float
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Requests answered per second."""
        return len(self.latencies_s) / self.elapsed_s


class Clients:
    """Connected clients, each with the questions that it asks in turn."""

    def __init__(self, endpoint: str, clients: Sequence[Sequence[Question]]) -> None:
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._clients: dict[zmq.Socket[bytes], _Client] = {}
        for questions in clients:
            socket = self._context.socket(zmq.DEALER)
            configure_client(socket)
            socket.connect(endpoint)
            self._clients[socket] = _Client(socket, questions)
            self._poller.register(socket, zmq.POLLIN)
        for client in self._clients.values():
            client.socket.send(encode(Hello(id="hello", versions=(PROTOCOL_VERSION,))))
        for client in self._clients.values():
            if not client.socket.poll(TIMEOUT_MS):
                raise TimeoutError(f"no welcome from {endpoint}")
            client.socket.recv_multipart()

    def run(self, n_clients: int, seconds: float) -> Window:
        """Keep the first `n_clients` busy for `seconds`; ends when the last is answered."""
        active = list(self._clients.values())[:n_clients]
        window = Window(0.0)
        start_s = time.perf_counter()
        for client in active:
            self._ask(client)
        waiting = n_clients
        while waiting:
            ready = self._poller.poll(TIMEOUT_MS)
            if not ready:
                raise TimeoutError(f"{waiting} of {n_clients} clients got no answer")
            for socket, _ in ready:
                client = self._clients[socket]
                if not self._read(client):
                    continue
                now_s = time.perf_counter()
                window.latencies_s.append(now_s - client.asked_s)
                if now_s - start_s < seconds:
                    self._ask(client)
                else:
                    waiting -= 1
        window.elapsed_s = time.perf_counter() - start_s
        return window

    def _ask(self, client: _Client) -> None:
        question = client.questions[client.n_asked % len(client.questions)]
        client.n_asked += 1
        request = replace(question.request, id=str(client.n_asked))
        client.asked_s = time.perf_counter()
        client.socket.send_multipart([encode(request), *question.frames])

    def _read(self, client: _Client) -> bool:
        """Whether that was the last reply to its question."""
        reply = decode_reply(client.socket.recv_multipart()[0])
        if isinstance(reply, Failed):
            raise RuntimeError(f"a request failed: {reply.error.message}")
        return reply.final

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

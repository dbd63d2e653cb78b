"""A closed loop of clients: each asks again as soon as it is answered, for a while.

Clients are bare sockets of this process, so that the daemon is what is measured and not sixteen
Python clients on the same cores. Each says hello and then sends forward requests of its own prompt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import zmq

from circuit_protocol.codec import decode_reply, encode
from circuit_protocol.replies import Failed
from circuit_protocol.requests import Forward, Hello, Prompts
from circuit_protocol.sockets import configure_client
from circuit_protocol.tensors import Frame, Tensor, pack
from circuit_protocol.version import PROTOCOL_VERSION

TIMEOUT_MS = 30_000


@dataclass(eq=False)
class _Client:
    """One connection: its socket, the frames of its prompt, when it last asked."""

    socket: "zmq.Socket[bytes]"
    tokens: Tensor
    frames: list[Frame]
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
    """Connected clients, one per prompt [T] of `prompts`."""

    def __init__(self, endpoint: str, model: str, prompts: Sequence[np.ndarray]) -> None:
        self._model = model
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._clients: dict[zmq.Socket[bytes], _Client] = {}
        for tokens in prompts:
            socket = self._context.socket(zmq.DEALER)
            configure_client(socket)
            socket.connect(endpoint)
            frames: list[Frame] = []
            tensor = pack(tokens[None, :], frames)
            self._clients[socket] = _Client(socket, tensor, frames)
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
                self._read(client)
                now_s = time.perf_counter()
                window.latencies_s.append(now_s - client.asked_s)
                if now_s - start_s < seconds:
                    self._ask(client)
                else:
                    waiting -= 1
        window.elapsed_s = time.perf_counter() - start_s
        return window

    def _ask(self, client: _Client) -> None:
        client.n_asked += 1
        request = Forward(
            id=str(client.n_asked),
            model=self._model,
            prompts=Prompts(tokens=client.tokens),
            logits="last",
            use_cache=False,
        )
        client.asked_s = time.perf_counter()
        client.socket.send_multipart([encode(request), *client.frames])

    def _read(self, client: _Client) -> None:
        reply = decode_reply(client.socket.recv_multipart()[0])
        if isinstance(reply, Failed):
            raise RuntimeError(f"a forward pass failed: {reply.error.message}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

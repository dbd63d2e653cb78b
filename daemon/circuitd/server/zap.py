"""Who may enter over TCP: ZeroMQ asks for each new connection, and the allow-list answers.

ZAP (RFC 27): libzmq sends each CURVE handshake's client key to `inproc://zeromq.zap.01` and waits
for a verdict. The list is read anew each time, so that a key allowed or disallowed counts at
once for new connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import zmq
from zmq.utils import z85

from circuit_protocol.errors import CircuitError

log = logging.getLogger(__name__)

_ENDPOINT: Final = "inproc://zeromq.zap.01"
_VERSION: Final = b"1.0"


class KeyDoor:
    """The ZAP handler of a context. `allowed()` maps public keys (Z85) to names."""

    def __init__(self, context: zmq.Context, allowed: Callable[[], Mapping[str, str]]) -> None:
        self._allowed = allowed
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ENDPOINT)
        self._loop.add_reader(self._socket.fileno(), self._answer)

    def close(self) -> None:
        """Answer no more."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close(0)

    def _answer(self) -> None:
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            parts = self._socket.recv_multipart(zmq.NOBLOCK)
            self._socket.send_multipart(self._verdict(parts))

    def _verdict(self, parts: list[bytes]) -> list[bytes]:
        version, number, _domain, address, _identity, mechanism, *credentials = parts
        if version != _VERSION or mechanism != b"CURVE" or len(credentials) != 1:
            return [_VERSION, number, b"400", b"CURVE only", b"", b""]
        key = z85.encode(credentials[0]).decode("ascii")
        try:
            name = self._allowed().get(key)
        except (CircuitError, OSError) as error:
            log.error("the allow-list cannot be read, so nobody is let in: %s", error)
            name = None
        if name is None:
            log.warning("refused a key that is not allowed: %s, from %s", key, address.decode())
            return [_VERSION, number, b"400", b"this key is not allowed", b"", b""]
        return [_VERSION, number, b"200", b"", key.encode(), b""]

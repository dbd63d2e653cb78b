"""Asking the running daemon one thing, without asyncio and without the client package.

The daemon's own command line needs three requests (status, resident models, shutdown), over the
local socket only: a DEALER, hello, the request, its final reply.
"""

import contextlib
import os
import secrets
import time
from typing import TypeVar

import zmq

from circuit_protocol.codec import decode_reply, encode
from circuit_protocol.discovery import Discovery
from circuit_protocol.errors import ConnectError, InternalError, from_info
from circuit_protocol.replies import AnyReply, Failed, Reply, Welcome
from circuit_protocol.requests import Hello, Request
from circuit_protocol.sockets import configure_client
from circuit_protocol.version import PROTOCOL_VERSION

R = TypeVar("R", bound=Reply)


def ask(daemon: Discovery, request: Request, wanted: type[R], *, timeout_s: float = 5.0) -> R:
    """The final reply to `request`.

    Raises the error the daemon answers with, or ConnectError if none comes within `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    configure_client(socket)
    # With IMMEDIATE a reply that is followed by the end of the line is lost unless it was read in
    # between; the reply to shutdown is such a one.
    socket.setsockopt(zmq.IMMEDIATE, 0)
    try:
        socket.connect(daemon.endpoint)

        def exchange(message: Request) -> AnyReply:
            socket.send(encode(message))
            while True:
                left_ms = max(0, round(1000 * (deadline_s - time.monotonic())))
                if not socket.poll(left_ms):
                    raise ConnectError(
                        "the daemon does not answer",
                        asked=f"{daemon.endpoint} (process {daemon.pid})",
                        found=f"nothing within {timeout_s:g} s",
                        hint="`circuitd logs` may say why; `circuitd stop --now` ends it",
                    )
                reply = decode_reply(socket.recv_multipart()[0])
                if reply.id != message.id or not reply.final:
                    continue
                if isinstance(reply, Failed):
                    raise from_info(reply.error)
                return reply

        welcome = exchange(Hello(id=request_id(), versions=(PROTOCOL_VERSION,), client="circuitd"))
        if not isinstance(welcome, Welcome):
            raise InternalError("the daemon does not greet", found=type(welcome).__name__)
        reply = exchange(request)
        if not isinstance(reply, wanted):
            raise InternalError("the daemon gave a reply of another kind", found=str(type(reply)))
        return reply
    finally:
        socket.close()
        context.term()


def request_id() -> str:
    """An id no other request has."""
    return f"circuitd-{secrets.token_hex(6)}"


def wait_for_exit(pid: int, timeout_s: float) -> bool:
    """Wait until process `pid` has ended (it need not be a child); whether it has."""
    if hasattr(os, "pidfd_open"):
        import select

        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            # Readable at its exit, also while it is a zombie nobody has waited for.
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(round(1000 * timeout_s)))
        finally:
            os.close(fd)
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def signal_process(pid: int, number: int) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

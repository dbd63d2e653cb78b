"""The I/O thread of a connection: one DEALER socket, its monitor, and a pipe that wakes it.

Callers in any thread leave commands in a queue; this thread hands them and everything that happens
on the socket to the `Exchange` and sends what that wants sent. Each time the line is lost a fresh
socket is made, so that nothing meant for the last daemon is delivered to the next one.
"""

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import zmq

from circuit_client.call import Call
from circuit_client.exchange import Exchange, Sink
from circuit_protocol.errors import ConnectError, InternalError
from circuit_protocol.replies import Welcome
from circuit_protocol.sockets import LineMonitor

#: How long closing waits for the last messages to leave, in milliseconds.
_LINGER_MS: Final = 200
#: Messages taken from the socket before commands are looked at again.
_BURST: Final = 64

#: Makes a DEALER socket, not connected yet, for one attempt.
SocketMaker = Callable[[zmq.Context], zmq.Socket]

_open_lines: "weakref.WeakSet[Line]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Hang up when the interpreter ends, so that the daemon forgets this client at once."""
    for line in list(_open_lines):
        line.close()


class Line:
    """Moves the messages of one connection. All methods but the constructor are thread-safe."""

    def __init__(
        self,
        endpoint: str,
        make_socket: SocketMaker,
        *,
        curve: bool,
        client: str,
        wait_s: float,
    ) -> None:
        self.endpoint = endpoint
        self._make_socket = make_socket
        self._curve = curve
        self._wait_s = wait_s
        self._exchange = Exchange(client, wait_s=wait_s)
        self._commands: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._numbers = iter(range(1, 1 << 62))
        self._opened: Future[Welcome] = Future()
        self._closing = False
        #: Set when the I/O thread will look at no more commands.
        self._ended = False
        # Reentrant: the garbage collector may release a handle while this thread wakes the other.
        self._pipe_lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="circuit-line", daemon=True)

    def open(self) -> Welcome:
        """Connect and greet. Raises ConnectError with the reason, within `wait_s` seconds."""
        _open_lines.add(self)
        self._thread.start()
        try:
            return self._opened.result()
        except BaseException:
            self.close()
            raise

    @property
    def welcome(self) -> Welcome:
        """The daemon's latest welcome."""
        welcome = self._exchange.welcome
        assert welcome is not None  # `open` returned
        return welcome

    def new_id(self) -> str:
        """An id for a request, taken before it is sent so that it can be cancelled from then on."""
        return str(next(self._numbers))

    def submit(self, request_id: str, call: Call[Any, Any], sink: Sink) -> None:
        """Send a call; its replies go to `sink`."""
        now_s = time.monotonic()
        self._do(lambda: self._exchange.submit(request_id, call, sink, now_s))
        if self._ended:
            self._drain()  # nobody else will: the exchange is over and says so to the sink

    def cancel(self, request_id: str) -> None:
        """Ask for the end of a request; harmless if it has ended."""
        self._do(lambda: self._exchange.cancel(request_id))

    def lease(self, handle: str, instance: str) -> None:
        """Count one more value that refers to `handle`."""
        self._do(lambda: self._exchange.lease(handle, instance), wake=False)

    def release(self, handle: str, instance: str) -> None:
        """Count one value fewer. Called by the garbage collector, wherever that runs."""
        self._do(lambda: self._exchange.release(handle, instance))

    def close(self) -> None:
        """Cancel, release and hang up; waits for the thread."""
        self._closing = True
        self._wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        _open_lines.discard(self)

    # ----------------------------------------------------------------------- the calling threads

    def _do(self, command: Callable[[], None], *, wake: bool = True) -> None:
        self._commands.append(command)
        if wake:
            self._wake()

    def _wake(self) -> None:
        # A full pipe wakes the thread as well as one more byte would.
        with self._pipe_lock, contextlib.suppress(BlockingIOError):
            if not self._ended:
                os.write(self._wake_write, b"\0")

    # ----------------------------------------------------------------------------- the I/O thread

    def _run(self) -> None:
        context = zmq.Context()
        try:
            pause_s = 0.05
            while not self._closing and self._exchange.phase != "over":
                if self._attempt(context):
                    pause_s = 0.05
                else:
                    self._pause(pause_s)
                    pause_s = min(2 * pause_s, 2.0)
        except Exception as e:
            # The one loop that must not die silently: every waiting caller is told.
            self._exchange.end(InternalError("the client's I/O thread failed", found=repr(e)))
            raise
        finally:
            self._exchange.end(ConnectError("the connection was closed"))
            with self._pipe_lock:
                self._ended = True
                os.close(self._wake_read)
                os.close(self._wake_write)
            self._drain()
            self._settle_opening()
            context.destroy(linger=_LINGER_MS)

    def _attempt(self, context: zmq.Context) -> bool:
        """Use one socket until it is lost or the exchange is over; whether a welcome came."""
        socket = self._make_socket(context)
        monitor = LineMonitor(socket)
        try:
            socket.connect(self.endpoint)
            return self._converse(socket, monitor)
        finally:
            monitor.close()
            socket.close(_LINGER_MS)

    def _converse(self, socket: zmq.Socket, monitor: LineMonitor) -> bool:
        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        poller.register(monitor.pair, zmq.POLLIN)
        poller.register(socket, zmq.POLLIN)
        greet_by_s = time.monotonic() + self._wait_s
        exchange = self._exchange
        blocked = False
        while True:
            self._drain()
            if self._closing and exchange.phase != "over":
                exchange.farewell()
            exchange.flush()
            was_blocked, blocked = blocked, not self._send_all(socket)
            if blocked != was_blocked:
                poller.modify(socket, zmq.POLLIN | (zmq.POLLOUT if blocked else 0))
            self._settle_opening()
            if exchange.phase == "over":
                return exchange.welcome is not None
            now_s = time.monotonic()
            exchange.on_time(now_s)
            if not self._opened.done() and now_s >= greet_by_s:
                exchange.end(monitor.refusal(self.endpoint, curve=self._curve))
                continue
            events = dict(poller.poll(self._timeout_ms(now_s, greet_by_s)))
            if self._wake_read in events:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            if socket in events:
                self._receive(socket)
            if monitor.pair in events and (lost := self._on_monitor(monitor)) is not None:
                self._receive(socket)  # what had arrived before the end still counts
                was_open = exchange.phase == "open"
                exchange.on_lost(lost)
                return was_open

    def _send_all(self, socket: zmq.Socket) -> bool:
        outgoing = self._exchange.outgoing
        while outgoing:
            try:
                socket.send_multipart(outgoing[0], zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return False
            outgoing.popleft()
        return True

    def _receive(self, socket: zmq.Socket) -> None:
        for _ in range(_BURST):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._exchange.on_message([frame.buffer for frame in frames])

    def _on_monitor(self, monitor: LineMonitor) -> str | None:
        """Act on what happened to the line; the reason if it is lost."""
        for event in monitor.read():
            if event.state == "ready":
                self._exchange.on_connected()
                continue
            over = event.state in ("lost", "refused") or event.event == zmq.Event.CONNECT_RETRIED
            if over and self._exchange.welcome is None:
                # The first attempt says at once what is wrong; later ones go on trying.
                self._exchange.end(monitor.refusal(self.endpoint, curve=self._curve))
            if event.state == "lost":
                return "the daemon hung up"
        return None

    def _timeout_ms(self, now_s: float, greet_by_s: float) -> int | None:
        """Until when to sleep; None: until something happens."""
        times_s = [t for t in (self._exchange.wakes_at_s(),) if t is not None]
        if not self._opened.done():
            times_s.append(greet_by_s)
        return max(0, int(1000 * (min(times_s) - now_s)) + 1) if times_s else None

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, still taking commands."""
        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        until_s = time.monotonic() + seconds
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            if poller.poll(int(1000 * left_s) + 1):
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            self._drain()
            self._exchange.on_time(time.monotonic())

    def _drain(self) -> None:
        while True:
            try:
                command = self._commands.popleft()
            except IndexError:
                return
            command()

    def _settle_opening(self) -> None:
        if self._opened.done():
            return
        if self._exchange.ended_by is not None:
            self._opened.set_exception(self._exchange.ended_by)
        elif self._exchange.phase == "open":
            assert self._exchange.welcome is not None  # that is what "open" means
            self._opened.set_result(self._exchange.welcome)

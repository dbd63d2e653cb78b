"""One DEALER socket and who works on it: the I/O thread, or a caller that waits for an answer.

The I/O thread connects, notices when the line is lost, and does whatever callers of any thread have
left in a queue of commands: it hands them and what happens on the socket to the `Exchange` and
sends what that wants sent. Each time the line is lost a fresh socket is made, so that nothing meant
for the last daemon is delivered to the next one.

Waking a thread and being woken by it costs more than a short request itself. So a caller that would
only wait (`ask`) and finds the line idle *attends* to it: it sends and receives in its own thread,
and the I/O thread leaves the socket alone. As soon as anybody else wants anything of the line, or
the request turns out to be a long one, the I/O thread takes over.
"""

import atexit
import contextlib
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import zmq

from circuit_client.call import Call
from circuit_client.exchange import Exchange, Sink
from circuit_protocol.errors import CircuitError, ConnectError, InternalError
from circuit_protocol.replies import Welcome
from circuit_protocol.sockets import LineMonitor, is_readable

#: How long closing waits for the last messages to leave, in milliseconds.
_LINGER_MS: Final = 200
#: Messages taken from the socket before commands are looked at again.
_BURST: Final = 64
_NOBLOCK: Final = int(zmq.NOBLOCK)

#: Makes a DEALER socket, not connected yet, for one attempt.
SocketMaker = Callable[[zmq.Context], zmq.Socket]

_open_lines: "weakref.WeakSet[Line]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Hang up when the interpreter ends, so that the daemon forgets this client at once."""
    for line in list(_open_lines):
        line.close()


class Inbox(Sink, Protocol):
    """A sink that keeps what it is given until its caller takes it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        ...


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
        #: Held by whoever works on the exchange or the socket.
        self._lock = threading.Lock()
        self._exchange = Exchange(client, wait_s=wait_s)
        #: The socket of the present attempt, and what can be polled of it: edge-triggered.
        self._socket: zmq.Socket | None = None
        self._descriptor = -1
        #: Whether the I/O thread waits for the socket, too, and not only to be woken.
        self._is_watched = False
        #: The request whose caller receives in its own thread, and whether it was told to stop.
        self._attended_for: str | None = None
        self._is_told_to_leave = False
        self._commands: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        #: A byte in this pipe has the attending caller leave the line to the I/O thread.
        self._leave_read, self._leave_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write, self._leave_read):
            os.set_blocking(descriptor, False)
        self._numbers = iter(range(1, 1 << 62))
        #: Set once the daemon has said welcome, or why it will not.
        self._opened = threading.Event()
        self._opening_error: CircuitError | None = None
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
            self._opened.wait()
            if self._opening_error is not None:
                raise self._opening_error
            return self.welcome
        except BaseException:
            self.close()
            raise

    @property
    def welcome(self) -> Welcome:
        """The daemon's latest welcome."""
        welcome = self._exchange.welcome
        assert welcome is not None  # `open` returned
        return welcome

    @property
    def is_open(self) -> bool:
        """Whether the daemon has said welcome and the line has not been lost since."""
        return self._exchange.phase == "open"

    def new_id(self) -> str:
        """An id for a request, taken before it is sent so that it can be cancelled from then on."""
        return str(next(self._numbers))

    def submit(self, request_id: str, call: Call[Any, Any], sink: Sink) -> None:
        """Send a call; its replies go to `sink`."""
        now_s = time.monotonic()
        self._do(lambda: self._exchange.submit(request_id, call, sink, now_s))
        if self._ended:
            with self._lock:
                self._drain()  # nobody else will: the exchange is over and says so to the sink

    def ask(self, request_id: str, call: Call[Any, Any], inbox: Inbox) -> None:
        """As `submit`, for a caller that waits: returns when `inbox` has something, or before."""
        try:
            if self._begin_attending(request_id, call, inbox):
                self._attend(inbox)
                return
        except BaseException:  # Ctrl-C; it may have come between a message and its delivery
            with self._lock:
                self._exchange.abandon(request_id)
            raise
        finally:
            self._end_attending(request_id)
        self.submit(request_id, call, inbox)

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

    # ----------------------------------------------------------------------- the attending caller

    def _begin_attending(self, request_id: str, call: Call[Any, Any], inbox: Inbox) -> bool:
        """Send `call` from this thread if the line is up and nobody else wants anything of it."""
        if call.frames:
            return False  # Ctrl-C could tear a message of several frames apart
        with self._lock:
            exchange = self._exchange
            if self._commands or self._is_watched or self._socket is None or self._closing:
                return False
            if exchange.phase != "open" or exchange.n_unanswered:
                return False
            self._attended_for = request_id
            exchange.submit(request_id, call, inbox, time.monotonic())
            self._send_all(self._socket)
        return True

    def _attend(self, inbox: Inbox) -> None:
        """Receive until `inbox` has something or the I/O thread shall go on."""
        socket = self._socket
        arrival = select.poll()
        arrival.register(self._leave_read, select.POLLIN)
        arrival.register(self._descriptor, select.POLLIN)
        while True:
            with self._lock:
                if socket is None or socket is not self._socket:
                    return
                # Until nothing is left: each use of the socket may swallow the edge for more.
                while inbox.is_empty and is_readable(socket):
                    self._receive(socket)
                    self._send_all(socket)
                if not inbox.is_empty or self._exchange.outgoing:
                    return
            if any(descriptor == self._leave_read for descriptor, _ in arrival.poll()):
                return

    def _end_attending(self, request_id: str) -> None:
        with self._lock:
            if self._attended_for != request_id:
                return
            self._attended_for = None
            if self._is_told_to_leave:
                self._is_told_to_leave = False
                os.read(self._leave_read, 1)
            is_done = not (self._exchange.n_unanswered or self._exchange.outgoing)
        if not is_done:
            self._wake()

    def _tell_to_leave(self) -> None:
        if self._attended_for is not None and not self._is_told_to_leave:
            self._is_told_to_leave = True
            os.write(self._leave_write, b"\0")

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
            with self._lock:
                error = InternalError("the client's I/O thread failed", found=repr(e))
                self._exchange.end(error)
            raise
        finally:
            with self._lock:
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
            self._socket, self._descriptor = socket, int(socket.FD)
            return self._converse(socket, monitor)
        finally:
            with self._lock:
                self._socket, self._is_watched = None, False
                self._tell_to_leave()
            monitor.close()
            socket.close(_LINGER_MS)

    def _converse(self, socket: zmq.Socket, monitor: LineMonitor) -> bool:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(monitor.fd, select.POLLIN)
        greet_by_s = time.monotonic() + self._wait_s
        exchange = self._exchange
        while True:
            with self._lock:
                if self._attended_for is None:
                    self._receive(socket)
                if (lost := self._on_monitor(monitor)) is not None:
                    self._receive(socket)  # what had arrived before the end still counts
                    was_open = exchange.phase == "open"
                    exchange.on_lost(lost)
                    return was_open
                self._drain()
                if self._closing and exchange.phase != "over":
                    exchange.farewell()
                exchange.flush()
                self._send_all(socket)
                self._settle_opening()
                if exchange.phase == "over":
                    return exchange.welcome is not None
                now_s = time.monotonic()
                exchange.on_time(now_s)
                if not self._opened.is_set() and now_s >= greet_by_s:
                    exchange.end(monitor.refusal(self.endpoint, curve=self._curve))
                    continue
                timeout_ms = self._timeout_ms(now_s, greet_by_s)
                if self._watch(socket, poll):
                    timeout_ms = 0
            if any(descriptor == self._wake_read for descriptor, _ in poll.poll(timeout_ms)):
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)

    def _watch(self, socket: zmq.Socket, poll: select.poll) -> bool:
        """Decide who waits for the socket; whether this thread has to look at it at once."""
        exchange = self._exchange
        if self._attended_for is not None:
            # One that only has its own request to wait for may stay.
            if exchange.n_unanswered > 1 or exchange.outgoing or is_readable(socket):
                self._tell_to_leave()
            return False
        was_watched = self._is_watched
        self._is_watched = bool(
            exchange.phase != "open" or exchange.n_unanswered or exchange.outgoing
        )
        if self._is_watched and not was_watched:
            poll.register(self._descriptor, select.POLLIN)
        elif was_watched and not self._is_watched:
            poll.unregister(self._descriptor)
        # Its descriptor tells of a change only: what has come already must be looked for.
        return self._is_watched and is_readable(socket)

    def _send_all(self, socket: zmq.Socket) -> None:
        """Send what is to be sent, as far as the socket takes it."""
        outgoing = self._exchange.outgoing
        while outgoing:
            message = outgoing.popleft()
            try:
                socket.send_multipart(message, _NOBLOCK, copy=False)
            except zmq.Again:
                outgoing.appendleft(message)
                return

    def _receive(self, socket: zmq.Socket) -> None:
        """Take in what has arrived, or some of it."""
        for _ in range(_BURST):
            if not is_readable(socket):
                return
            frames = socket.recv_multipart(_NOBLOCK, copy=False)
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
        if not self._opened.is_set():
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
            with self._lock:
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
        if self._opened.is_set():
            return
        if self._exchange.ended_by is not None:
            self._opening_error = self._exchange.ended_by
            self._opened.set()
        elif self._exchange.phase == "open":
            self._opened.set()

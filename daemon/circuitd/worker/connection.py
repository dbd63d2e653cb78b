"""The line to the front: a DEALER socket that receives in a thread of its own and sends from any.

The I/O thread sleeps until the socket or the heartbeat needs it, so cancels arrive and heartbeats
leave also in the middle of a long step. The compute loop sends directly, under the socket's lock:
an answer costs no hand-over between threads. When the front goes away, so does this process.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from circuit_protocol.tensors import Frame
from circuitd import work
from circuitd.worker.inbox import Inbox

_log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S: Final = 1.0
#: The front listens before it starts workers: one that does not answer by then is gone.
CONNECT_TIMEOUT_S: Final = 30.0
#: Messages waiting to be sent before the compute loop is held up.
_SEND_HIGH_WATER: Final = 4096
_ON_HOLD_S: Final = 0.001
_CONNECTED: Final = zmq.EVENT_CONNECTED
_DISCONNECTED: Final = zmq.EVENT_DISCONNECTED


class Connection:
    """This worker's socket. `on_front_gone(reason)` is called in the I/O thread, at most once."""

    def __init__(
        self,
        address: str,
        worker_id: int,
        inbox: Inbox,
        *,
        heartbeat: Callable[[], work.Heartbeat],
        on_front_gone: Callable[[str], None],
        front_is_alive: Callable[[], bool] = lambda: True,
        heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S,
    ) -> None:
        self._inbox = inbox
        self._heartbeat = heartbeat
        self._heartbeat_interval_s = heartbeat_interval_s
        self._on_front_gone = on_front_gone
        self._front_is_alive = front_is_alive
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[work.ToWorker] = msgspec.msgpack.Decoder(
            work.ToWorker
        )
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 1000
        self._socket.sndhwm = _SEND_HIGH_WATER
        self._socket.rcvhwm = 0  # the front bounds what it sends; nothing may be dropped here
        self._socket.routing_id = f"worker-{worker_id}".encode()
        self._monitor = self._socket.get_monitor_socket(_CONNECTED | _DISCONNECTED)
        #: Held for every use of the socket, which makes its use by two threads safe.
        self._lock = threading.Lock()
        self._is_connected = False
        self._is_closing = False
        #: A byte in this pipe wakes the I/O thread when it shall end.
        self._wake_read, self._wake_write = os.pipe()
        self._socket.connect(address)
        self._thread = threading.Thread(target=self._receive, name="circuitd-io", daemon=True)

    def start(self) -> None:
        """Begin to receive and to send heartbeats."""
        self._thread.start()

    def send(self, message: work.FromWorker, frames: Sequence[Frame] = ()) -> None:
        """Send one message. Large frames are not copied: nobody may change them afterwards."""
        parts = [self._encoder.encode(message), *frames]
        while True:
            with self._lock:
                try:
                    self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    pass
                else:
                    # Sending may have swallowed the edge that announces incoming messages.
                    self._drain()
                    return
            time.sleep(_ON_HOLD_S)  # the front is far behind: hold the computation up

    def close(self) -> None:
        """Send what is waiting (for a second at most), end the I/O thread and close the socket."""
        self._is_closing = True
        os.write(self._wake_write, b"\0")
        self._thread.join()
        with self._lock:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close()
        self._context.term()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _receive(self) -> None:
        poll = select.poll()
        for descriptor in (self._socket.FD, self._monitor.FD, self._wake_read):
            poll.register(descriptor, select.POLLIN)
        give_up_at = time.monotonic() + CONNECT_TIMEOUT_S
        next_heartbeat = time.monotonic()
        while not self._is_closing:
            with self._lock:
                self._drain()
            reason = self._front_gone(give_up_at)
            if reason is not None:
                self._on_front_gone(reason)
                return
            now = time.monotonic()
            if now >= next_heartbeat:
                next_heartbeat = now + self._heartbeat_interval_s
                self.send(self._heartbeat())
            poll.poll(max(0.0, next_heartbeat - time.monotonic()) * 1000)

    def _drain(self) -> None:
        """Receive until nothing is left; needs the lock. Never blocks."""
        while True:
            try:
                header, *rest = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            frames = [frame.buffer for frame in rest]
            try:
                message = self._decoder.decode(header.buffer)
            except msgspec.MsgspecError as error:
                # Only our own front speaks here, so this is a defect, but no reason to die.
                _log.error("a message of the front was not understood: %s", error)
                continue
            self._inbox.put(message, frames)

    def _front_gone(self, give_up_at: float) -> str | None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == _DISCONNECTED:
                return "the front closed the connection"
            self._is_connected = True
        if not self._front_is_alive():
            return "the front process has ended"
        if not self._is_connected and time.monotonic() > give_up_at:
            return f"no front answered within {CONNECT_TIMEOUT_S:g} s"
        return None

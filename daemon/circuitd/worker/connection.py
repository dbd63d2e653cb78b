"""The line to the front: a DEALER socket that the computing thread uses, and a beating heart.

The computing thread receives by itself, waiting when it is idle and looking in between when it is
not, and it sends by itself: no message costs a hand-over between threads. A second thread sends a
heartbeat each second, also in the middle of a long step, and notices when the front goes away; then
this process goes, too.
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

from circuit_protocol.sockets import is_readable
from circuit_protocol.tensors import Frame
from circuitd import work
from circuitd.worker.inbox import Inbox

_log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S: Final = 1.0
#: The front listens before it starts workers: one that does not answer by then is gone.
CONNECT_TIMEOUT_S: Final = 30.0
#: Messages waiting to be sent before the computing thread is held up.
_SEND_HIGH_WATER: Final = 4096
_ON_HOLD_S: Final = 0.001
_NOBLOCK: Final = int(zmq.NOBLOCK)
_CONNECTED: Final = zmq.EVENT_CONNECTED
_DISCONNECTED: Final = zmq.EVENT_DISCONNECTED


class Connection:
    """This worker's socket, which fills `inbox` when that asks for it.

    `on_front_gone(reason)` is called in the heartbeat's thread, at most once.
    """

    def __init__(
        self,
        address: str,
        own_address: bytes,
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
        self._socket.routing_id = own_address
        self._monitor = self._socket.get_monitor_socket(_CONNECTED | _DISCONNECTED)
        #: Held for every use of the socket, which makes its use by two threads safe.
        self._lock = threading.Lock()
        self._is_connected = False
        #: A byte in this pipe wakes the computing thread to look at the socket.
        self._look_read, self._look_write = os.pipe()
        os.set_blocking(self._look_read, False)
        #: A byte in this one ends the heartbeat.
        self._end_read, self._end_write = os.pipe()
        self._arrival = select.poll()
        for descriptor in (self._socket.FD, self._look_read):
            self._arrival.register(descriptor, select.POLLIN)
        inbox.receive = self._receive
        self._socket.connect(address)
        self._thread = threading.Thread(target=self._beat, name="circuitd-heart", daemon=True)

    def start(self) -> None:
        """Begin to send heartbeats and to watch the front."""
        self._thread.start()

    def send(self, message: work.FromWorker, frames: Sequence[Frame] = ()) -> None:
        """Send one message. Large frames are not copied: nobody may change them afterwards."""
        parts = [self._encoder.encode(message), *frames]
        while True:
            with self._lock:
                try:
                    self._socket.send_multipart(parts, _NOBLOCK, copy=False)
                except zmq.Again:
                    pass
                else:
                    return
            time.sleep(_ON_HOLD_S)  # the front is far behind: hold the computation up

    def close(self) -> None:
        """Send what is waiting (for a second at most), end the heartbeat and close the socket."""
        os.write(self._end_write, b"\0")
        self._thread.join()
        with self._lock:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close()
        self._context.term()
        for descriptor in (self._look_read, self._look_write, self._end_read, self._end_write):
            os.close(descriptor)

    # ------------------------------------------------------------------ the computing thread

    def _receive(self, wait: bool) -> None:
        """Put what has arrived into the inbox; with `wait`, stay until something has."""
        while not self._take_in() and wait:
            for descriptor, _ in self._arrival.poll():
                if descriptor == self._look_read:
                    os.read(self._look_read, 4096)

    def _take_in(self) -> bool:
        """Receive until nothing is left; whether there was anything. Never blocks."""
        found = False
        with self._lock:
            while is_readable(self._socket):
                header, *rest = self._socket.recv_multipart(_NOBLOCK, copy=False)
                found = True
                try:
                    message = self._decoder.decode(header.buffer)
                except msgspec.MsgspecError as error:
                    # Only our own front speaks here: a defect, but no reason to die.
                    _log.error("a message of the front was not understood: %s", error)
                    continue
                self._inbox.put(message, [frame.buffer for frame in rest])
        return found

    # ------------------------------------------------------------------ the heartbeat's thread

    def _beat(self) -> None:
        poll = select.poll()
        for descriptor in (self._monitor.FD, self._end_read):
            poll.register(descriptor, select.POLLIN)
        give_up_at = time.monotonic() + CONNECT_TIMEOUT_S
        next_heartbeat = time.monotonic()
        while True:
            reason = self._front_gone(give_up_at)
            if reason is not None:
                self._on_front_gone(reason)
                return
            now = time.monotonic()
            if now >= next_heartbeat:
                next_heartbeat = now + self._heartbeat_interval_s
                self._send_heartbeat()
            ready = poll.poll(max(0.0, next_heartbeat - time.monotonic()) * 1000)
            if any(descriptor == self._end_read for descriptor, _ in ready):
                return

    def _send_heartbeat(self) -> None:
        self.send(self._heartbeat())
        # Sending may have swallowed the edge that announces incoming messages.
        with self._lock:
            if is_readable(self._socket):
                os.write(self._look_write, b"\0")

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

"""A ROUTER socket on the event loop: messages in, bounded outboxes out, and who has gone.

ROUTER drops silently unless told otherwise, so it is told (`ROUTER_MANDATORY`): what a peer does
not take now waits in an outbox of its own, counted in bytes; a peer whose outbox is full goes.

A peer that vanishes (also by kill -9) is noticed at once: the socket's monitor names the connection
that ended, and each peer's first message tells which connection it came over.

The loop watches ZeroMQ's own file descriptor. It is edge-triggered: after anything that lets
ZeroMQ look at its mailbox (also a send), the socket has to be asked whether it became readable.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import zmq

from circuit_protocol.keys import KeyPair
from circuit_protocol.sockets import LineMonitor, configure_server, connection_of, is_readable
from circuit_protocol.tensors import Frame

log = logging.getLogger(__name__)

#: Messages handled before other events get their turn.
_BURST: Final = 64
#: How many peers that have gone are remembered, to drop messages that outlived them.
_REMEMBERED: Final = 4096
#: Blocked outboxes are tried again at least this often.
_RETRY_S: Final = 0.05
# As plain integers: arithmetic on pyzmq's enumerations costs more than the calls they are for.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_SNDMORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)

Peer = bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a peer: frame 0, and the frames after it as views of ZeroMQ's memory.

    `overflow` says that the message was longer than the port accepts; the rest was thrown away.
    """

    peer: Peer
    header: bytes
    frames: tuple[Frame, ...]
    nbytes: int
    overflow: bool = False


@dataclass(slots=True)
class _PeerState:
    connection: int
    user_id: str | None
    outbox: deque[tuple[Sequence[Frame], int]] = field(default_factory=deque)
    #: Sum over the outbox.
    outbox_nbytes: int = 0


class RouterPort:
    """One bound ROUTER socket. All callbacks run on the loop that made it."""

    def __init__(
        self,
        context: zmq.Context,
        *,
        on_message: Callable[[Message], None],
        on_gone: Callable[[Peer, str], None],
        on_drained: Callable[[Peer], None] = lambda peer: None,
        frame_nbytes: int = -1,
        message_nbytes: int = 1 << 62,
        max_frames: int = 1 << 20,
        outbox_nbytes: int = 256 << 20,
        keys: KeyPair | None = None,
    ) -> None:
        """With `keys` the port speaks CURVE; the context's ZAP handler decides who may enter."""
        self._on_message = on_message
        self._on_gone = on_gone
        self._on_drained = on_drained
        self._message_nbytes = message_nbytes
        self._max_frames = max_frames
        self._outbox_nbytes = outbox_nbytes
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        configure_server(self._socket, frame_nbytes=frame_nbytes, keys=keys)
        self._socket.backlog = 1024
        self._monitor = LineMonitor(self._socket)
        #: Known peers: those that sent something and are still connected.
        self._peers: dict[Peer, _PeerState] = {}
        self._by_connection: dict[int, Peer] = {}
        #: The numbers of connections that stand, known peers or not.
        self._live: set[int] = set()
        #: Peers with a nonempty outbox.
        self._blocked: dict[Peer, None] = {}
        self._gone: OrderedDict[Peer, None] = OrderedDict()
        self._retry: asyncio.TimerHandle | None = None
        self._check_scheduled = False
        self._closed = False
        #: Whether it listens on a local socket: its peers are this user's processes.
        self.is_local = False
        self._loop.add_reader(self._socket.fileno(), self._ready)
        self._loop.add_reader(self._monitor.fd, self._monitored)

    def bind(self, endpoint: str) -> str:
        """Listen on `endpoint`; returns it with the port ZeroMQ chose. Raises zmq.ZMQError."""
        self._socket.bind(endpoint)
        self.is_local = endpoint.startswith("ipc://")
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def user_id(self, peer: Peer) -> str | None:
        """The peer's CURVE public key, where there is CURVE."""
        state = self._peers.get(peer)
        return state.user_id if state is not None else None

    def has_backlog(self, peer: Peer) -> bool:
        """Whether messages for a peer wait in its outbox; `on_drained` will tell when not."""
        return peer in self._blocked

    def send(self, peer: Peer, parts: Sequence[Frame]) -> None:
        """Send or queue one message. Large frames are not copied: do not change them afterwards.

        For a peer that is not there nothing happens; one whose outbox is full is dropped.
        """
        state = self._peers.get(peer)
        if state is None or self._closed:
            return
        if state.outbox or not self._try_send(peer, parts):
            self._queue(peer, state, parts)
        # The send may have swallowed the edge that announces incoming messages.
        if not self._check_scheduled and is_readable(self._socket):
            self._check_scheduled = True
            self._loop.call_soon(self._ready)

    def drop(self, peer: Peer, reason: str) -> None:
        """Forget a peer: nothing more is sent to it, and `on_gone` is called."""
        state = self._peers.pop(peer, None)
        if state is None:
            return
        if self._by_connection.get(state.connection) == peer:
            del self._by_connection[state.connection]
        self._blocked.pop(peer, None)
        self._on_gone(peer, reason)

    def receive_pending(self) -> None:
        """Handle all messages that have arrived, now."""
        while not self._closed and self._drain(_BURST):
            pass

    def close(self, linger_s: float = 0.0) -> None:
        """Stop listening and let go of everything; `on_gone` is not called.

        ZeroMQ has `linger_s` to hand over what it still holds, in its own thread.
        """
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fd)
        self._monitor.close()
        self._socket.close(int(linger_s * 1000))
        self._peers.clear()

    # ---- incoming

    def _ready(self) -> None:
        self._check_scheduled = False
        if self._closed:
            return
        if self._drain(_BURST):
            self._check_scheduled = True
            self._loop.call_soon(self._ready)
        if self._blocked:
            self._send_blocked()

    def _drain(self, limit: int) -> bool:
        """Handle up to `limit` messages; whether there may be more."""
        for _ in range(limit):
            if not is_readable(self._socket):
                return False
            message = self._receive(self._socket.recv(_NOBLOCK, copy=False))
            if message is not None:
                self._on_message(message)
                if self._closed:
                    return False
        return True

    def _receive(self, first: zmq.Frame) -> Message | None:
        """The message that `first`, the routing id, begins; None if nobody can answer it."""
        peer = first.bytes
        header = b""
        frames: list[Frame] = []
        nbytes = count = 0
        overflow = False
        more = first.more
        while more:
            part = self._socket.recv(_NOBLOCK, copy=False)
            more = part.more
            buffer = part.buffer
            count += 1
            nbytes += buffer.nbytes
            if overflow or count > self._max_frames or nbytes > self._message_nbytes:
                overflow = True
            elif count == 1:
                header = part.bytes
            else:
                frames.append(buffer)
        if peer not in self._peers and not self._welcome(peer, first):
            return None
        if overflow:
            frames.clear()
        return Message(peer, header, tuple(frames), nbytes, overflow)

    def _welcome(self, peer: Peer, first: zmq.Frame) -> bool:
        """Make a new peer known; False for one that has already gone."""
        if peer in self._gone:
            return False
        connection = connection_of(first)
        for lost in self._read_monitor():
            self._leave(lost)
        if connection not in self._live:  # it has left already, and nobody would tell again
            self._remember_gone(peer)
            return False
        if (stale := self._by_connection.get(connection)) is not None:
            self._leave(stale)  # numbers come again, but two at once cannot have the same
        try:
            user_id: str | None = str(first.get("User-Id")) or None
        except zmq.ZMQError:  # no mechanism that knows users
            user_id = None
        self._peers[peer] = _PeerState(connection, user_id)
        self._by_connection[connection] = peer
        return True

    # ---- who has gone

    def _monitored(self) -> None:
        if self._closed:
            return
        lost = self._read_monitor()
        if lost:
            # What they sent before they left has arrived before this event.
            self.receive_pending()
        for peer in lost:
            self._leave(peer)

    def _read_monitor(self) -> list[Peer]:
        """Follow the connections that came and ended; the known peers among the latter.

        A connection's number may be another one's by the time a message is handled, so numbers
        become peers here, in the order of the events, and nowhere else.
        """
        lost: list[Peer] = []
        for event in self._monitor.read():
            if event.state == "connected":
                self._live.add(event.connection)
            elif event.state == "lost":
                self._live.discard(event.connection)
                peer = self._by_connection.pop(event.connection, None)
                if peer is not None:
                    lost.append(peer)
            elif event.state == "refused":
                log.warning("a client was refused: its key is not allowed, or it speaks no CURVE")
        return lost

    def _leave(self, peer: Peer) -> None:
        self._remember_gone(peer)
        self.drop(peer, "it disconnected")

    def _remember_gone(self, peer: Peer) -> None:
        if peer.startswith(b"\0"):  # chosen by ZeroMQ, so never chosen again
            self._gone[peer] = None
            if len(self._gone) > _REMEMBERED:
                self._gone.popitem(last=False)

    # ---- outgoing

    def _try_send(self, peer: Peer, parts: Sequence[Frame]) -> bool:
        """Hand a message to ZeroMQ; False if the peer's pipe is full."""
        send = self._socket.send
        try:
            send(peer, _SNDMORE)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._loop.call_soon(self.drop, peer, "it cannot be reached")
            return True
        last = len(parts) - 1
        for i, part in enumerate(parts):
            send(part, _SNDMORE if i < last else _NOBLOCK, copy=False)
        return True

    def _queue(self, peer: Peer, state: _PeerState, parts: Sequence[Frame]) -> None:
        nbytes = sum(memoryview(part).nbytes for part in parts)
        if state.outbox_nbytes + nbytes > self._outbox_nbytes:
            log.warning("a client does not read: %d bytes wait for it", state.outbox_nbytes)
            self._loop.call_soon(self.drop, peer, "it does not read what it is sent")
            return
        state.outbox.append((parts, nbytes))
        state.outbox_nbytes += nbytes
        self._blocked[peer] = None
        if self._retry is None:
            self._retry = self._loop.call_later(_RETRY_S, self._retry_blocked)

    def _retry_blocked(self) -> None:
        self._retry = None
        self._send_blocked()
        if self._blocked and not self._closed:
            self._retry = self._loop.call_later(_RETRY_S, self._retry_blocked)

    def _send_blocked(self) -> None:
        drained: list[Peer] = []
        for peer in list(self._blocked):
            state = self._peers[peer]
            while state.outbox and self._try_send(peer, state.outbox[0][0]):
                state.outbox_nbytes -= state.outbox.popleft()[1]
            if not state.outbox:
                del self._blocked[peer]
                drained.append(peer)
        for peer in drained:
            self._on_drained(peer)
        if not self._check_scheduled and is_readable(self._socket):
            self._check_scheduled = True
            self._loop.call_soon(self._ready)

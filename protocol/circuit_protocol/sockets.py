"""Every option of a client's and of the daemon's socket, set in one place, and what a line did.

ZeroMQ hides three things that matter here. A ROUTER drops what it cannot deliver unless told not
to. A refused CURVE handshake looks like silence: only the socket's monitor knows. And a server is
not told which peer has left: `connection_of` names the connection a message came over, and the
`LineMonitor` of that socket reports the connections that ended.
"""

import itertools
import struct
from typing import Final, Literal, NamedTuple

import zmq

from circuit_protocol.errors import ConnectError, KeyRefused
from circuit_protocol.keys import KeyPair

#: Heartbeats are answered by libzmq's own thread, so a busy program still counts as alive.
HEARTBEAT_INTERVAL_S: Final = 5.0
HEARTBEAT_TIMEOUT_S: Final = 15.0
HANDSHAKE_TIMEOUT_S: Final = 10.0

#: Messages that wait per peer in ZeroMQ; what waits beyond is the sender's bounded outbox to keep.
SERVER_SEND_MESSAGES: Final = 64
SERVER_RECEIVE_MESSAGES: Final = 1024

# As plain integers: arithmetic on pyzmq's enumerations costs more than the calls they are for.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)

#: The daemon's ZAP domain: a name, since libzmq asks no authenticator for an empty one.
ZAP_DOMAIN: Final = "circuitd"


def configure_server(
    socket: zmq.Socket,
    *,
    frame_nbytes: int,
    keys: KeyPair | None = None,
) -> None:
    """Prepare the ROUTER the daemon binds. With `keys` it speaks CURVE and nothing else.

    CURVE alone lets every key in: the context needs a ZAP authenticator for ZAP_DOMAIN first.
    """
    _configure_both(socket)
    # Without this a ROUTER drops what it cannot deliver; with it, EAGAIN and EHOSTUNREACH tell.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.SNDHWM, SERVER_SEND_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, SERVER_RECEIVE_MESSAGES)
    # A longer frame ends its sender's connection before memory is taken for it.
    socket.setsockopt(zmq.MAXMSGSIZE, frame_nbytes)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode("ascii"))
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def configure_client(
    socket: zmq.Socket,
    *,
    server_public_key: str | None = None,
    keys: KeyPair | None = None,
) -> None:
    """Prepare the DEALER a client connects. CURVE needs the daemon's public key and own `keys`."""
    if (server_public_key is None) != (keys is None):
        raise ValueError("CURVE needs the server's public key and the client's own key pair")
    _configure_both(socket)
    # Nothing is queued for a daemon that is not there: a send waits until the line is up.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    # What arrives is bounded by what was asked for and, for chunks, by credit.
    socket.setsockopt(zmq.RCVHWM, 0)
    if server_public_key is not None and keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, server_public_key.encode("ascii"))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode("ascii"))
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))


def _configure_both(socket: zmq.Socket) -> None:
    # A process that ends does not wait for a peer that does not read.
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_TIMEOUT_S * 1000))
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(HEARTBEAT_INTERVAL_S * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(HEARTBEAT_TIMEOUT_S * 1000))
    # The peer gives up on us by the same clock (TTL travels in tenths of a second).
    socket.setsockopt(zmq.HEARTBEAT_TTL, int(HEARTBEAT_TIMEOUT_S * 1000))


def is_readable(socket: zmq.Socket) -> bool:
    """Whether a message waits in `socket`. Cheaper than to receive in vain, which raises."""
    return int(socket.get(_EVENTS)) & _POLLIN != 0


def connection_of(frame: zmq.Frame) -> int:
    """The connection `frame` arrived on: a number that `LineEvent.connection` repeats when it ends.

    `frame` must have been received with `copy=False`. It is a file descriptor, so numbers are used
    again after their connection has ended.
    """
    return int(frame.get(zmq.SRCFD))


LineState = Literal["connecting", "connected", "ready", "lost", "refused"]


class LineEvent(NamedTuple):
    """What happened to a connection: its number, where it has one, and the event."""

    state: LineState
    connection: int
    event: zmq.Event
    value: int


_STATES: Final[dict[int, LineState]] = {
    zmq.Event.CONNECT_DELAYED: "connecting",
    zmq.Event.CONNECT_RETRIED: "connecting",
    zmq.Event.CONNECTED: "connected",
    zmq.Event.ACCEPTED: "connected",
    zmq.Event.HANDSHAKE_SUCCEEDED: "ready",
    zmq.Event.DISCONNECTED: "lost",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "refused",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "refused",
    zmq.Event.HANDSHAKE_FAILED_AUTH: "refused",
}
#: How an event begins: its number and its value (zmq_socket_monitor(3)).
_EVENT: Final = struct.Struct("=hi")
#: Events whose value is the number of the connection.
_NUMBERED: Final = frozenset({zmq.Event.CONNECTED, zmq.Event.ACCEPTED, zmq.Event.DISCONNECTED})
_addresses = itertools.count()


class LineMonitor:
    """The monitor of one socket: `read()` drains it, `refusal()` says why nothing is answered.

    Never blocks. `fd`, of a plain (not asyncio) PAIR socket, is there to be polled. Close it
    before the socket: a monitor that outlives its socket can hang the context.
    """

    def __init__(self, socket: zmq.Socket) -> None:
        self._socket = socket
        address = f"inproc://circuit-line-{next(_addresses)}"
        events = 0
        for event in _STATES:
            events |= event
        socket.monitor(address, events)
        # A plain socket also when `socket` belongs to an asyncio context.
        self.pair = zmq.Socket(zmq.Context.shadow(socket.context), zmq.PAIR)
        self.pair.setsockopt(zmq.LINGER, 0)
        # Unbounded: a full monitor would block libzmq's thread, and with it all sockets.
        self.pair.setsockopt(zmq.RCVHWM, 0)
        self.pair.connect(address)
        self.state: LineState = "connecting"
        self._refusal: LineEvent | None = None

    @property
    def fd(self) -> int:
        """A descriptor that becomes readable when there may be events (edge-triggered)."""
        return int(self.pair.getsockopt(zmq.FD))

    def read(self) -> list[LineEvent]:
        """All events since the last call, in order."""
        found = []
        while True:
            try:
                parts = self.pair.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            # pyzmq has a parser, but that would import asyncio: half of what a client imports.
            number, value = _EVENT.unpack(parts[0])
            event = zmq.Event(number)
            state = _STATES[event]
            found.append(LineEvent(state, value if event in _NUMBERED else -1, event, value))
            self._note(found[-1])
        return found

    def _note(self, event: LineEvent) -> None:
        if event.state == "refused":
            self._refusal = event
        elif event.state == "ready":
            self._refusal = None
        self.state = event.state

    def refusal(self, endpoint: str, *, curve: bool) -> ConnectError:
        """Why no answer came over this line, as one sentence for a person."""
        self.read()
        kind, found, hint = _explain(self.state, self._refusal, curve)
        return kind("no connection to circuitd", asked=endpoint, found=found, hint=hint)

    def close(self) -> None:
        """Stop watching. Idempotent; before the socket itself is closed."""
        if not self.pair.closed:
            if not self._socket.closed:
                self._socket.disable_monitor()
            self.pair.close(0)


def _explain(
    state: LineState, refusal: LineEvent | None, curve: bool
) -> tuple[type[ConnectError], str, str]:
    """What a hello without an answer means, what was found and what to do about it."""
    if refusal is None:
        if state in ("ready", "connected"):
            return (
                ConnectError,
                "the connection stands, but nobody answers the hello",
                "Is it a circuitd that listens there? `circuitd status` asks the local one",
            )
        return ConnectError, "nobody listens there", "Start the daemon with `circuitd start`"
    if refusal.event == zmq.Event.HANDSHAKE_FAILED_AUTH:
        return (
            KeyRefused,
            f"the daemon refused this client's key (status {refusal.value})",
            "Have the key allowed on the daemon's machine with `circuitd keys allow`",
        )
    if refusal.event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
        mismatch = refusal.value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
        if mismatch and curve:
            return (
                KeyRefused,
                "the daemon does not use CURVE keys there",
                "Connect without a server key",
            )
        if mismatch:
            return (
                KeyRefused,
                "the daemon wants CURVE keys",
                "Give its public key and your own key pair (`circuitd keys`)",
            )
        return (
            ConnectError,
            f"what listens there does not speak ZeroMQ (0x{refusal.value:08x})",
            "Check the port",
        )
    if curve:
        return (
            KeyRefused,
            "the handshake was cut off: most likely the server key is not this daemon's",
            "Compare the fingerprint with `circuitd keys` on the daemon's machine",
        )
    # Who closes first is a race: a CURVE server may hang up before its mechanism has been read.
    return (
        KeyRefused,
        "the handshake was cut off: most likely the daemon wants CURVE keys",
        "Give its public key and your own key pair (`circuitd keys`), if it is a circuitd",
    )

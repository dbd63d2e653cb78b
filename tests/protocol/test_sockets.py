"""Sockets as the daemon and its clients set them up, and what their monitor tells a person."""

import time

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from circuit_protocol.errors import ConnectError, KeyRefused
from circuit_protocol.keys import KeyPair
from circuit_protocol.sockets import (
    ZAP_DOMAIN,
    LineMonitor,
    configure_client,
    configure_server,
    connection_of,
)

TIMEOUT_S = 20.0


def new_pair() -> KeyPair:
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


SERVER, CLIENT, STRANGER = new_pair(), new_pair(), new_pair()


class AllowClient:
    """The allow-list: one key."""

    def callback(self, _domain, key) -> bool:
        return key.decode() == CLIENT.public


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def authenticator(context):
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(ZAP_DOMAIN, AllowClient())
    yield authenticator
    authenticator.stop()


class Pair:
    """A server and a client that connects to it, each with its monitor."""

    def __init__(self, context, server_keys=None, client_keys=None, server_public_key=None):
        self.server = context.socket(zmq.ROUTER)
        configure_server(self.server, frame_nbytes=1 << 16, keys=server_keys)
        self.server_line = LineMonitor(self.server)
        self.endpoint = f"tcp://127.0.0.1:{self.server.bind_to_random_port('tcp://127.0.0.1')}"
        self.client = context.socket(zmq.DEALER)
        configure_client(self.client, keys=client_keys, server_public_key=server_public_key)
        self.client.sndtimeo = int(TIMEOUT_S * 1000)
        self.line = LineMonitor(self.client)
        self.curve = client_keys is not None

    def connect(self) -> "Pair":
        self.client.connect(self.endpoint)
        return self

    def wait_for(self, line, *states) -> list:
        """Events until one has a state of `states`."""
        found = []
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if line.pair.poll(100):
                found += line.read()
            if any(e.state in states for e in found):
                return found
        raise AssertionError(f"no {states} among {found}")

    def refusal(self) -> ConnectError:
        self.wait_for(self.line, "refused")
        return self.line.refusal(self.endpoint, curve=self.curve)

    def close(self):
        self.line.close()
        self.server_line.close()
        self.client.close()
        self.server.close()


@pytest.fixture
def paired(context):
    pairs = []

    def make(*args, **kwargs) -> Pair:
        pairs.append(Pair(context, *args, **kwargs))
        return pairs[-1].connect()

    yield make
    for pair in pairs:
        pair.close()


def test_plain_client_reaches_plain_server(paired):
    pair = paired()
    pair.wait_for(pair.line, "ready")
    pair.client.send(b"hi")
    assert pair.server.poll(TIMEOUT_S * 1000)
    assert pair.server.recv_multipart()[1] == b"hi"


def test_allowed_client_reaches_curve_server_by_name(authenticator, paired):
    pair = paired(SERVER, CLIENT, SERVER.public)
    pair.client.send(b"hi")
    assert pair.server.poll(TIMEOUT_S * 1000)
    frame = pair.server.recv_multipart(copy=False)[1]
    assert frame.get("User-Id") == CLIENT.public


def test_client_off_the_allow_list_is_told(authenticator, paired):
    error = paired(SERVER, STRANGER, SERVER.public).refusal()
    assert isinstance(error, KeyRefused)
    assert "refused this client's key" in str(error)
    assert "circuitd keys allow" in str(error)


def test_client_without_keys_is_told(authenticator, paired):
    assert "wants CURVE keys" in str(paired(SERVER).refusal())


def test_client_with_the_wrong_server_key_is_told(authenticator, paired):
    assert "server key is not this daemon's" in str(
        paired(SERVER, CLIENT, STRANGER.public).refusal()
    )


def test_client_with_keys_for_a_plain_server_is_told(paired):
    assert "does not use CURVE" in str(paired(None, CLIENT, SERVER.public).refusal())


def test_client_of_nobody_is_told(context, tmp_path):
    client = context.socket(zmq.DEALER)
    configure_client(client)
    line = LineMonitor(client)
    endpoint = f"ipc://{tmp_path}/none.sock"
    client.connect(endpoint)
    error = line.refusal(endpoint, curve=False)
    assert not isinstance(error, KeyRefused)
    assert "nobody listens there" in str(error)
    assert endpoint in str(error)
    line.close()
    client.close()


def test_silent_peer_is_told_apart_from_nobody(paired):
    pair = paired()
    pair.wait_for(pair.line, "ready")
    assert "nobody answers the hello" in str(pair.line.refusal(pair.endpoint, curve=False))


def test_server_learns_which_client_left(paired, context):
    pair = paired()
    other = context.socket(zmq.DEALER)
    configure_client(other)
    other.sndtimeo = int(TIMEOUT_S * 1000)
    other.connect(pair.endpoint)
    numbers = {}
    for socket, text in ((pair.client, b"first"), (other, b"other")):
        socket.send(text)
        assert pair.server.poll(TIMEOUT_S * 1000)
        frame = pair.server.recv_multipart(copy=False)[1]
        numbers[bytes(frame)] = connection_of(frame)
    assert len(set(numbers.values())) == 2
    other.close()
    events = pair.wait_for(pair.server_line, "lost")
    assert [e.connection for e in events if e.state == "lost"] == [numbers[b"other"]]


def test_server_says_when_a_peer_is_not_there(paired):
    pair = paired()
    with pytest.raises(zmq.ZMQError) as caught:
        pair.server.send_multipart([b"nobody", b"hi"])
    assert caught.value.errno == zmq.EHOSTUNREACH


def test_client_queues_nothing_for_a_daemon_that_is_not_there(context, tmp_path):
    client = context.socket(zmq.DEALER)
    configure_client(client)
    client.connect(f"ipc://{tmp_path}/none.sock")
    with pytest.raises(zmq.Again):
        client.send(b"hi", zmq.NOBLOCK)
    client.close()


def test_frame_over_the_limit_ends_the_connection(paired):
    pair = paired()
    pair.wait_for(pair.line, "ready")
    pair.client.send(bytes((1 << 16) + 1))
    pair.wait_for(pair.line, "lost")


def test_curve_needs_both_halves(context):
    client = context.socket(zmq.DEALER)
    with pytest.raises(ValueError, match="key pair"):
        configure_client(client, keys=CLIENT)
    with pytest.raises(ValueError, match="key pair"):
        configure_client(client, server_public_key=SERVER.public)
    client.close()

"""Where the daemon is, with which keys, and starting one when none runs here."""

import os
import sys
from pathlib import Path
from typing import Final

import zmq

from circuit_client.line import Line
from circuit_protocol.discovery import Discovery, read_discovery
from circuit_protocol.endpoints import Endpoint, default_endpoint, parse_endpoint
from circuit_protocol.errors import ConnectError, InvalidRequest
from circuit_protocol.keys import KeyPair, load_key_pair, parse_key
from circuit_protocol.sockets import configure_client

#: How long `circuitd start` may take until the daemon answers, in seconds.
_START_TIMEOUT_S: Final = 60.0


def reach(
    endpoint: str | None,
    *,
    key: str | os.PathLike[str] | None,
    server_key: str | os.PathLike[str] | None,
    timeout_s: float,
    start: bool,
    client: str,
) -> Line:
    """An open line to the daemon. `connect()` describes the arguments."""
    chosen = endpoint or os.environ.get("CIRCUIT_ENDPOINT") or None
    is_found = chosen is None
    if chosen is None:
        discovery = read_discovery()
        if discovery is None and start:
            discovery = start_daemon()
        if discovery is None:
            raise ConnectError(
                "no daemon runs on this machine for you",
                asked=str(default_endpoint()),
                hint="`circuitd start` starts one",
            )
        chosen = discovery.endpoint
    place = parse_endpoint(chosen)
    # The socket of this user's own daemon has no keys, whatever is set for another one elsewhere.
    secrets = None if is_found else _keys(place, key, server_key)
    line = Line(
        str(place),
        lambda context: _socket(context, secrets),
        curve=secrets is not None,
        client=client,
        wait_s=timeout_s,
    )
    line.open()
    return line


def start_daemon() -> Discovery | None:
    """Run `circuitd start` and wait until the daemon answers, saying so on stderr."""
    import subprocess  # seldom needed, and slow to import

    command = find_circuitd()
    if command is None:
        raise ConnectError(
            "no daemon runs on this machine, and circuitd is not installed here",
            hint="`pip install 'circuitd[daemon]'`, or name the endpoint of one elsewhere",
        )
    print("circuit: no daemon is running; starting one (circuitd start)", file=sys.stderr)  # noqa: T201
    try:
        ended = subprocess.run(
            [command, "start"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_START_TIMEOUT_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise ConnectError(
            f"`circuitd start` did not come to an end within {_START_TIMEOUT_S:g} s",
            hint="`circuitd logs` shows what it does",
        ) from None
    if ended.returncode != 0:
        raise ConnectError(
            "the daemon could not be started",
            asked="circuitd start",
            found=ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else None,
            hint="`circuitd doctor` says what is missing",
        )
    return read_discovery()


def find_circuitd() -> str | None:
    """The `circuitd` that was installed with this package, else the one on the path."""
    import shutil

    beside = Path(sys.executable).parent / "circuitd"
    return str(beside) if beside.exists() else shutil.which("circuitd")


def _keys(
    place: Endpoint,
    key: str | os.PathLike[str] | None,
    server_key: str | os.PathLike[str] | None,
) -> tuple[KeyPair, str] | None:
    """This client's pair and the daemon's public key; None where the endpoint needs none."""
    server_key = server_key or os.environ.get("CIRCUIT_SERVER_KEY")
    if place.transport == "ipc" and key is None and server_key is None:
        return None
    if server_key is None:
        if key is None:
            return None
        raise InvalidRequest(
            "a client key needs the daemon's public key beside it",
            hint="`circuitd keys show` on the daemon's machine prints it",
        )
    server = _read_key(server_key)
    if key is None:
        key = os.environ.get("CIRCUIT_KEY")
    if key is None:
        return load_key_pair("client"), server
    path = Path(key)
    return load_key_pair(path.name.removesuffix(".secret"), path.parent), server


def _read_key(given: str | os.PathLike[str]) -> str:
    """A public key from its 40 characters or from a file."""
    path = Path(given)
    if path.is_file():
        return parse_key(path.read_text("ascii", "replace"), str(path))
    return parse_key(str(given), "server key")


def _socket(context: zmq.Context, secrets: tuple[KeyPair, str] | None) -> zmq.Socket:
    socket = context.socket(zmq.DEALER)
    pair, server = secrets or (None, None)
    configure_client(socket, server_public_key=server, keys=pair)
    return socket

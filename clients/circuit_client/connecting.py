"""`connect()` and `connect_async()`."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_client.reach import reach
from circuit_client.sync import Connection

if TYPE_CHECKING:
    from circuit_client.aio import Connecting


def connect(
    endpoint: str | None = None,
    *,
    key: str | os.PathLike[str] | None = None,
    server_key: str | os.PathLike[str] | None = None,
    timeout_s: float = 10.0,
    start: bool = True,
    client: str | None = None,
) -> Connection:
    """Connect to a daemon; use it in a `with` block.

    `endpoint` is `ipc://PATH`, `tcp://HOST:PORT` or the path of a socket. Without it,
    $CIRCUIT_ENDPOINT; else the daemon that runs here for this user; else one is started with
    `circuitd start` (said on stderr, forbidden by `start=False`).

    Over TCP, `server_key` is the daemon's public key (its text or a file; else
    $CIRCUIT_SERVER_KEY), `key` the file of this client's secret key (else $CIRCUIT_KEY, else the
    one `circuitd keys` made). `timeout_s` is how long a welcome, or a lost line's return, is waited
    for. `client` is how the daemon's log calls this program.

    Raises ConnectError when there is no daemon, KeyRefused when it does not accept the key,
    UnsupportedVersion when it speaks another version.
    """
    return Connection(
        reach(
            endpoint,
            key=key,
            server_key=server_key,
            timeout_s=timeout_s,
            start=start,
            client=client or _program(),
        )
    )


def connect_async(
    endpoint: str | None = None,
    *,
    key: str | os.PathLike[str] | None = None,
    server_key: str | os.PathLike[str] | None = None,
    timeout_s: float = 10.0,
    start: bool = True,
    client: str | None = None,
) -> "Connecting":
    """As `connect`, for coroutines: use it in `async with`, or await it."""
    from circuit_client.aio import Connecting  # asyncio: half of what importing a client costs

    return Connecting(
        partial(
            reach,
            endpoint,
            key=key,
            server_key=server_key,
            timeout_s=timeout_s,
            start=start,
            client=client or _program(),
        )
    )


def _program() -> str:
    """This program's name, for the daemon's log."""
    return Path(sys.argv[0]).name or "python"

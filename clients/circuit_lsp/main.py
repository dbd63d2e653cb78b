"""`circuit lsp`: run the server over stdio, or for one editor at a time over TCP."""

import asyncio
import ipaddress
import logging
import sys
import threading
from importlib.metadata import version

from pygls.io_ import run_async

from circuit_lsp.features import actions, commands, heat_marks, hover, lenses, own_files
from circuit_lsp.messages.settings import Settings
from circuit_lsp.server import CircuitServer
from circuit_protocol.errors import InvalidRequest


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT of a loopback address. Raises InvalidRequest for any other.

    LSP knows no keys: whoever reaches the port reads the user's files and asks the user's daemon.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidRequest("this is no address", asked=text, hint="Give HOST:PORT")
    if host != "localhost":
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise InvalidRequest(
                "the language server listens on this machine only, since LSP knows no keys",
                asked=text,
                hint="`ssh -L` makes the port reachable from another machine",
            )
    return host, int(port)


def run(*, tcp: str | None, log_level: str, defaults: Settings) -> None:
    """Serve until the editor says `exit` or hangs up; `defaults` hold where it sets nothing."""
    logging.basicConfig(
        stream=sys.stderr, level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    # What it logs on each error response, with a traceback, `protocol` has logged already.
    logging.getLogger("pygls").setLevel(logging.CRITICAL)
    address = None if tcp is None else parse_address(tcp)
    server = CircuitServer(version("circuitd"), defaults)
    for part in (hover, heat_marks, actions, lenses, commands, own_files):
        part.register(server)
    if address is not None:
        asyncio.run(serve_tcp(server, *address))
        return
    # A stray print would break the line to the editor.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    server.start_io(sys.stdin.buffer, out)


async def serve_tcp(server: CircuitServer, host: str, port: int) -> None:
    """Serve the first editor that comes, until it goes; say on stderr where it may come to."""
    is_over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.close()
        server.protocol.set_writer(writer)  # pyright: ignore[reportArgumentType]  # as pygls does
        try:
            await run_async(threading.Event(), reader, server.protocol)  # pyright: ignore[reportArgumentType]
        finally:
            is_over.set()

    listener = await asyncio.start_server(talk, host, port)
    where, bound = listener.sockets[0].getsockname()[:2]
    print(f"circuit: the language server listens on {where}:{bound}", file=sys.stderr)  # noqa: T201
    await is_over.wait()

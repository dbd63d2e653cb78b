"""A private daemon: directories of its own, started for the benchmarks and always stopped."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from circuit_client import Connection, connect
from circuit_protocol.discovery import Discovery, read_discovery
from circuit_protocol.keys import allow_client, make_key_pair

#: How a client reaches the daemon: the local socket, or TCP without and with encryption.
Transport = Literal["ipc", "tcp", "tcp+CURVE"]

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.001


@dataclass(frozen=True)
class Home:
    """Where a daemon keeps everything: one directory, short enough for a socket's path."""

    directory: Path

    @property
    def runtime(self) -> Path:
        """Sockets and the discovery file."""
        return self.directory / "run"

    @property
    def keys(self) -> Path:
        """Keys of the daemon and of its client."""
        return self.directory / "config" / "keys"

    def environment(self, data: Path) -> dict[str, str]:
        """Variables for the daemon and the commands that shall find it; `data` adds models."""
        return {
            **os.environ,
            "CIRCUITD_RUNTIME_DIR": str(self.runtime),
            "CIRCUITD_STATE_DIR": str(self.directory / "state"),
            "CIRCUITD_CACHE_DIR": str(self.directory / "cache"),
            "CIRCUITD_CONFIG_DIR": str(self.directory / "config"),
            "CIRCUITD_CIRCUITS_DIR": str(self.directory / "circuits"),
            "CIRCUITD_DATA": str(data),
        }


@contextmanager
def home() -> Iterator[Home]:
    """A temporary home, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="circuitd-bench-"))
    try:
        yield Home(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def spawned(
    where: Home, data: Path, arguments: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """A daemon's front process, not waited for; ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "circuitd", "serve", "--quiet", "--offline", *arguments],
        env=where.environment(data),
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_discovery(where: Home, process: "subprocess.Popen[bytes]") -> Discovery:
    """The discovery file of a daemon that is starting. Raises RuntimeError if it ends instead."""
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s:
        if where.runtime.is_dir() and (found := read_discovery(where.runtime)) is not None:
            return found
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended with status {process.returncode}")
        time.sleep(_POLL_S)
    raise RuntimeError(f"the daemon was not ready within {START_TIMEOUT_S:g} s")


@dataclass(eq=False)
class Daemon:
    """A running daemon and a client of it."""

    process: "subprocess.Popen[bytes]"
    endpoint: str
    client: Connection

    @property
    def front_pid(self) -> int:
        """The front process."""
        return self.process.pid

    @property
    def worker_pid(self) -> int:
        """The first worker process."""
        processes = self.client.status().processes
        return next(process.pid for process in processes if process.role == "worker")

    @property
    def pids(self) -> tuple[int, int]:
        """Front and worker."""
        return self.front_pid, self.worker_pid


@contextmanager
def private_daemon(data: Path, transport: Transport = "ipc") -> Iterator[Daemon]:
    """A daemon, models kept for ever, that `client` reaches over `transport`."""
    listen = () if transport == "ipc" else ("--listen", "tcp://127.0.0.1:*")
    insecure = ("--set", "allow_insecure_loopback_tcp=true") if transport == "tcp" else ()
    with home() as where:
        server_key: str | None = None
        if transport == "tcp+CURVE":
            server_key = make_key_pair("server", where.keys).public
            allow_client("bench", make_key_pair("client", where.keys).public, where.keys)
        arguments = ("--keep-alive", "-1", *listen, *insecure)
        with spawned(where, data, arguments) as process:
            found = wait_for_discovery(where, process)
            endpoint = next(
                e for e in found.endpoints if e.startswith("ipc" if transport == "ipc" else "tcp")
            )
            key = None if server_key is None else where.keys / "client.secret"
            with connect(
                endpoint, key=key, server_key=server_key, timeout_s=START_TIMEOUT_S, start=False
            ) as client:
                yield Daemon(process, endpoint, client)

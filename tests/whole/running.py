"""A daemon of a test's own: a real `circuitd serve`, with directories, keys and endpoints."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from circuit_protocol.discovery import Discovery, read_discovery
from circuit_protocol.keys import KeyPair, allow_client, make_key_pair

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Address:
    """One way to reach a daemon: an endpoint and, with CURVE, the keys it takes."""

    endpoint: str
    server_key: str | None = None
    #: This client's pair, and the file its secret half lies in.
    pair: KeyPair | None = None
    key: Path | None = None


class RunningDaemon:
    """A daemon process reachable by ipc, plain tcp on loopback, and tcp with CURVE."""

    def __init__(self, **settings: str) -> None:
        # Not pytest's own directory: a socket's path may have 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="circuitd-"))
        keys = self.home / "config" / "keys"
        self.server_key = make_key_pair("server", keys).public
        self.client = make_key_pair("client", keys)
        self.client_key = keys / "client.secret"
        allow_client("tests", self.client.public, keys)
        self.log = self.home / "serve.log"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CIRCUIT", "XDG_"))},
            "CIRCUITD_RUNTIME_DIR": str(self.home / "run"),
            "CIRCUITD_STATE_DIR": str(self.home / "state"),
            "CIRCUITD_CACHE_DIR": str(self.home / "cache"),
            "CIRCUITD_CONFIG_DIR": str(self.home / "config"),
            "CIRCUITD_CIRCUITS_DIR": str(self.home / "circuits"),
            "CIRCUITD_LISTEN": "tcp://127.0.0.1:*,tcp://0.0.0.0:*",
            "CIRCUITD_ALLOW_INSECURE_LOOPBACK_TCP": "true",
            "CIRCUITD_DEVICES": "cpu",
            "CIRCUITD_OFFLINE": "true",
            "OMP_NUM_THREADS": "1",
            **settings,
        }
        self.start()

    def start(self) -> None:
        """Start the process and wait until it has announced itself."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "circuitd", "serve"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        # There is no event to wait for: the daemon is no child that could tell, just a process.
        while (found := self._announced()) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the daemon did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        self.discovery: Discovery = found

    def _announced(self) -> Discovery | None:
        found = read_discovery(self.home / "run")
        return found if found is not None and found.pid == self.process.pid else None

    def address(self, transport: str) -> Address:
        """How to reach it by "ipc", "tcp" or "curve"."""
        ipc, plain, curve = self.discovery.endpoints
        if transport == "ipc":
            return Address(ipc)
        if transport == "tcp":
            return Address(plain)
        port = curve.rpartition(":")[2]
        return Address(f"tcp://127.0.0.1:{port}", self.server_key, self.client, self.client_key)

    def stop(self) -> int:
        """Ask it to end, as a terminal would, and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        """End it, in the worst case hard, and remove everything it wrote."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def __repr__(self) -> str:
        return f"RunningDaemon({msgspec.to_builtins(self.discovery)})"

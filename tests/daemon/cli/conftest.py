"""Every test of the command line has directories of its own: it never meets a real daemon."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from circuit_protocol.endpoints import LOCK_NAME
from circuitd.store.locks import holder


@dataclass(frozen=True)
class Home:
    """The directories of one user, and the command line run for them."""

    path: Path
    runtime_dir: Path

    def run(self, *arguments: str, timeout_s: float = 60, **more) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "circuitd", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **more,
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    # A socket's path is short, pytest's directories are not.
    with tempfile.TemporaryDirectory(prefix="circuitd-test-") as runtime:
        monkeypatch.setenv("CIRCUITD_RUNTIME_DIR", runtime)
        for name in ("STATE", "CACHE", "CONFIG"):
            monkeypatch.setenv(f"CIRCUITD_{name}_DIR", str(tmp_path / name.lower()))
        for name in [n for n in os.environ if n.startswith("CIRCUITD_") and "_DIR" not in n]:
            monkeypatch.delenv(name)
        yield Home(tmp_path, Path(runtime))
        # A test that failed half way leaves no daemon behind.
        if pid := holder(Path(runtime) / LOCK_NAME):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

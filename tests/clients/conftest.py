"""What several tests of clients need."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_daemon_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that finds no daemon would start a real one, which nobody would end."""
    monkeypatch.setattr("circuit_client.reach.find_circuitd", lambda: None)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts: a test run that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

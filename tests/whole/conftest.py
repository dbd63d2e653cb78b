"""Real processes: one daemon for all tests that do not harm it, reached over every transport."""

from collections.abc import Iterator

import pytest

from whole.running import Address, RunningDaemon


@pytest.fixture(scope="session")
def daemon() -> Iterator[RunningDaemon]:
    """A daemon that the tests of a session share: leave it as it is."""
    running = RunningDaemon()
    yield running
    running.close()


@pytest.fixture(params=["ipc", "tcp", "curve"])
def address(request: pytest.FixtureRequest, daemon: RunningDaemon) -> Address:
    """The shared daemon's address on each transport."""
    return daemon.address(request.param)

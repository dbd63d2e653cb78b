"""Editors of all kinds on one daemon: real processes, the shipped model, the shipped circuits."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lsp_client import Editor
from whole.running import RunningDaemon


@pytest.fixture(scope="session")
def daemon() -> Iterator[RunningDaemon]:
    """A daemon that these tests share: leave it as it is."""
    running = RunningDaemon()
    yield running
    running.close()


@pytest_asyncio.fixture
async def editors() -> AsyncIterator[Callable[..., Any]]:
    """Starts editors, and ends those that a test leaves."""
    started: list[Editor] = []

    async def start(daemon: RunningDaemon, **given: Any) -> Editor:
        editor = await Editor.start(daemon.environment, **given)
        started.append(editor)
        return editor

    yield start
    for editor in started:
        await editor.stop()


def tool(name: str, install: str) -> Path:
    """A program that a test needs. Its absence is a failure: an editor not tested is not served."""
    found = shutil.which(name, path=f"{Path(os.sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.fail(f"{name} is missing: {install}")
    return Path(found)

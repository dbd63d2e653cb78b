"""An editor and a real terminal UI in one session: who selects a node moves the other."""

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator

import pytest

from whole.running import RunningDaemon
from whole.test_tui import CIRCUIT, Terminal

SESSION = "beside"


@pytest.fixture
def terminal(daemon: RunningDaemon) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "circuit_client", "tui", CIRCUIT, "--session", SESSION]
    place = ["--endpoint", daemon.address("ipc").endpoint]
    opened = Terminal(shlex.join([*command, *place]), daemon.environment)
    yield opened
    opened.close()


def selected(screen: str) -> str | None:
    """The node that the terminal UI looks at: its name stands above what it costs."""
    found = re.search(r"(\S+\[\d+\])[^\n]*\n[^\n]*nats without it", screen)
    return found and found[1]


async def test_a_node_selected_in_one_is_selected_in_the_other(daemon, editors, terminal):
    await asyncio.to_thread(terminal.until, lambda screen: selected(screen) is not None)
    editor = await editors(daemon, options={"session": SESSION})
    await editor.connected()
    node = {"site": "0.attn.act_in", "channel": 39}
    told = await editor.ask("circuit/session/update", {"node": node})
    assert told["attached"] == 2
    await asyncio.to_thread(terminal.until, lambda screen: selected(screen) == "0.attn.act_in[39]")

    terminal.press("g")
    await asyncio.to_thread(terminal.until, lambda screen: "graph of" in screen)
    editor.forget()
    terminal.press("Right")
    heard = await editor.heard("circuit/sessionChanged", lambda s: s["node"] not in (None, node))
    name = f"{heard['node']['site']}[{heard['node']['channel']}]"
    await asyncio.to_thread(terminal.until, lambda screen: selected(screen) == name)

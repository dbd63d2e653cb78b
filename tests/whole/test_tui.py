"""The terminal UI as it is used: in tmux with keys and mouse, over a real sshd, beside a script."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from circuit_client import connect
from circuit_protocol.session import SelectedNode, SessionPatch
from whole.running import RunningDaemon

CIRCUIT = "single_double_quote/shipped/34"
PATIENCE_S = 120.0


class Terminal:
    """A tmux of its own with one window in it."""

    def __init__(self, command: str, environment: dict[str, str], *, columns: int = 120) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tmux-"))
        self.socket = str(self.home / "s")
        told = ("TMUX", "NO_COLOR", "COLUMNS", "LINES")  # it shall ask its terminal
        kept = {k: v for k, v in environment.items() if k not in told}
        self._tmux(
            *("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", "40"),
            command,
            environment=kept | {"COLORTERM": "truecolor", "TERM": "xterm-256color"},
        )

    def _tmux(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        ended = subprocess.run(
            ["tmux", "-S", self.socket, *arguments],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ended.stdout

    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Keys by tmux' names."""
        self._tmux("send-keys", *keys)

    def click(self, column: int, row: int) -> None:
        """The mouse, as a terminal sends it; counted from 1."""
        down, up = f"\x1b[<0;{column};{row}M", f"\x1b[<0;{column};{row}m"
        self._tmux("send-keys", "-l", down + up)

    def until(self, holds: Callable[[str], bool]) -> str:
        """Wait for the screen: a terminal has no event that a test could wait for."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(text := self.text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return text

    def close(self) -> None:
        """End it and what runs in it."""
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def _command(endpoint: str, *options: str) -> str:
    return shlex.join(
        [sys.executable, "-m", "circuit_client", "tui", "--endpoint", endpoint, *options]
    )


@pytest.fixture
def environment(daemon: RunningDaemon) -> dict[str, str]:
    return daemon.environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}


@pytest.fixture
def terminal(daemon: RunningDaemon, environment: dict[str, str]) -> Iterator[Terminal]:
    endpoint = daemon.address("ipc").endpoint
    opened = Terminal(_command(endpoint, CIRCUIT, "--session", "seen"), environment)
    yield opened
    opened.close()


def test_keys_and_mouse_break_a_circuit_and_a_script_sees_and_moves_it(
    daemon: RunningDaemon, terminal: Terminal
) -> None:
    terminal.until(lambda text: "accuracy 98.0%" in text and "0.attn.v[219]" in text)
    terminal.press("Space")
    terminal.until(lambda text: "→ 0.770" in text and "61.3%" in text)
    with connect(daemon.address("ipc").endpoint) as c:
        state = c.sessions.get("seen")
        assert state.node == SelectedNode(site="0.attn.v", channel=219)
        assert [(i.site, i.channels) for i in state.interventions] == [("0.attn.v", (219,))]
        c.sessions.update("seen", SessionPatch(interventions=()))  # the script mends it
        # The mouse: the second row of the nodes that stand under the matrix.
        mended = terminal.until(
            lambda text: "→ 0.770" not in text and re.search(r" 220 +3/3 ", text) is not None
        )
        lines = mended.splitlines()
        row, found = next(
            (i, found) for i, line in enumerate(lines) if (found := re.search(r" 220 +3/3 ", line))
        )
        terminal.click(found.start() + 3, row + 1)
        deadline = time.monotonic() + PATIENCE_S
        while c.sessions.get("seen").node != SelectedNode(site="0.attn.v", channel=220):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    terminal.press("C-d")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A real sshd on loopback that lets one key in; its port and the key."""
    home = Path(tempfile.mkdtemp(prefix="sshd-"))
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True
        )
    (home / "allowed").write_text((home / "user.pub").read_text())
    (home / "allowed").chmod(0o600)
    Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "ListenAddress": "127.0.0.1", "AuthorizedKeysFile": str(home / "allowed"),
        "StrictModes": "no", "UsePAM": "no", "PidFile": "none", "PermitRootLogin": "yes",
    }  # fmt: skip
    server = subprocess.Popen(
        [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(port),
         "-h", str(home / "host"), *(f"-o{k}={v}" for k, v in options.items())],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield port, home / "user"
    server.terminate()
    server.wait(30)
    shutil.rmtree(home, ignore_errors=True)


def _over_ssh(sshd: tuple[int, Path], environment: dict[str, str], command: str) -> Terminal:
    """A terminal of 80 columns in which `command` runs at the other end of a real ssh."""
    port, key = sshd
    inside = " ".join(
        f"{name}={shlex.quote(environment[name])}" for name in ("PYTHONPATH", "CIRCUITD_STATE_DIR")
    )
    ssh = shlex.join([
        "ssh", "-tt", "-q", "-p", str(port), "-i", str(key), "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectionAttempts=20", "127.0.0.1",
        f"{inside} {command}",
    ])  # fmt: skip
    return Terminal(f"{ssh}; sleep 600", environment, columns=80)


def test_a_newcomer_finds_breaks_and_mends_a_circuit_over_ssh_and_takes_its_picture(
    daemon: RunningDaemon, environment: dict[str, str], sshd: tuple[int, Path], tmp_path: Path
) -> None:
    command = _command(daemon.address("ipc").endpoint, "--session", "newcomer")
    terminal = _over_ssh(sshd, environment, f"sh -c {shlex.quote(f'cd {tmp_path}; {command}')}")
    try:
        terminal.until(lambda text: "bracket_brace" in text and "enter open" in text)
        terminal.press("/", *"quote")
        terminal.until(lambda text: " quote" in text and "bracket_brace" not in text)
        terminal.press("Enter", "Enter")
        # What is worth most is selected, and stands in the list.
        terminal.until(lambda text: "0.attn.v  3 nodes" in text and "+0.710" in text)
        terminal.press("Space")
        terminal.until(lambda text: "0.095 → 0.770 (+0.674)" in text and "61.3%" in text)
        terminal.press("u")
        terminal.until(lambda text: "0.770" not in text)
        terminal.press("E")
        terminal.until(lambda text: "circuit-single_double_quote-34.svg" in text)
        terminal.press("Enter")
        terminal.until(lambda text: "Wrote" in text)
        picture = (tmp_path / "circuit-single_double_quote-34.svg").read_text()
        assert picture.startswith("<svg")
        assert "0.attn.v" in picture
    finally:
        terminal.close()


def test_over_ssh_it_paints_reads_a_node_and_leaves(
    daemon: RunningDaemon, environment: dict[str, str], sshd: tuple[int, Path]
) -> None:
    command = _command(daemon.address("ipc").endpoint, CIRCUIT, "--session", "far")
    terminal = _over_ssh(sshd, environment, command)
    try:
        terminal.until(lambda text: "shipped/34" in text and "[picture]" in text)
        terminal.press("3")
        terminal.until(lambda text: "class 1" in text and "print" in text)
        terminal.press("C-d")
        terminal.until(lambda text: "class 1" not in text)
    finally:
        terminal.close()


def test_a_killed_daemon_is_missed_and_found_again(environment: dict[str, str]) -> None:
    own = RunningDaemon()
    endpoint = own.address("ipc").endpoint
    terminal = Terminal(_command(endpoint, CIRCUIT, "--session", "kept"), own.environment | {
        "PYTHONPATH": environment["PYTHONPATH"]
    })  # fmt: skip
    try:
        terminal.until(lambda text: "0.attn.v[219]" in text and "accuracy" in text)
        own.process.kill()
        own.process.wait()
        terminal.until(lambda text: "lost" in text.splitlines()[0])
        terminal.press("g")  # it goes on without
        terminal.until(lambda text: "graph of" in text)
        own.start()
        terminal.until(lambda text: "lost" not in text.splitlines()[0])
        terminal.press("Space")
        terminal.until(lambda text: "→ 0.770" in text)
        # What was in flight when it died was asked again: the model's heads, the example pair.
        terminal.until(lambda text: "head 13  channel 11" in text and "right “" in text)
    finally:
        terminal.close()
        own.close()

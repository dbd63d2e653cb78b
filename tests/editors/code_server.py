"""A real VS Code that runs in a browser, with the extension installed as a user would."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import quote

REPOSITORY = Path(__file__).parents[2]
EXTENSION = REPOSITORY / "editors" / "vscode"
PACKAGE = EXTENSION / "build" / "circuit.vsix"
ENTRY = REPOSITORY / "build/code-server/node_modules/code-server/out/node/entry.js"
_LISTENS = "HTTP server listening on "
_STOP_TIMEOUT_S = 20.0

GREET = """\
def greet(name):
    if name is None:
        return "nobody"
    return f"hi {name}"


class Door:
    def __init__(self, width, height):
        self.width = width
        self.height = height

    def area(self):
        return self.width * self.height


for door in [Door(1, 2), Door(3, 4)]:
    print("area", door.area())
"""


class CodeServer:
    """A server process with directories of its own; nothing is set but what keeps it quiet.

    `asks_for_trust`: as VS Code comes; else every workspace is trusted.
    """

    def __init__(self, environment: Mapping[str, str], *, asks_for_trust: bool = False) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="code-server-"))
        self.folder = self.home / "workspace"
        self._flags = _FLAGS if asks_for_trust else [*_FLAGS, "--disable-workspace-trust"]
        self.settings = [
            self.home / "data" / part / "settings.json" for part in ("User", "Machine")
        ]
        for file in self.settings:
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(_QUIET))
        # The workspace's own environment, where the extension looks for the command.
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        self.circuit = programs / "circuit"
        self.circuit.symlink_to(Path(sys.executable).parent / "circuit")
        (self.folder / "greet.py").write_text(GREET)
        notes = self.home / "notes"
        notes.mkdir()
        (notes / "note.py").write_text("x = [1, 2]\nprint(x)\n")
        #: A workspace of two folders; the command is in the second one's environment.
        self.both = self.home / "both.code-workspace"
        self.both.write_text(json.dumps({"folders": [{"path": "notes"}, {"path": "workspace"}]}))
        self._environment = {**environment, "CIRCUIT_HOST_RESULTS": str(self.results)}
        self._directories = [
            "--user-data-dir",
            str(self.home / "data"),
            "--extensions-dir",
            str(self.home / "extensions"),
        ]

    @property
    def results(self) -> Path:
        """Where tests in the extension host write what they found."""
        return self.home / "results.json"

    def install(self, package: Path) -> None:
        """Install a packaged extension."""
        command = ["node", str(ENTRY), *self._directories, "--install-extension", str(package)]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    def start(self) -> None:
        """Start it, and wait until it says where it listens."""
        command = [
            "node",
            str(ENTRY),
            "--auth",
            "none",
            "--bind-addr",
            "127.0.0.1:0",
            *self._flags,
            *self._directories,
        ]
        self.process = subprocess.Popen(
            [*command, str(self.folder)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said = []
        for line in self._output():
            said.append(line)
            if _LISTENS in line:
                self.address = line.partition(_LISTENS)[2].strip().rstrip("/")
                break
        else:
            raise AssertionError(f"code-server did not start:\n{''.join(said)}")
        # What it says later must go somewhere, or it would wait for a reader.
        self._reader = threading.Thread(target=lambda: list(self._output()), daemon=True)
        self._reader.start()

    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def url(self) -> str:
        """Where a browser finds the workbench with its folder."""
        return f"{self.address}/?folder={quote(str(self.folder))}"

    def testing_url(self, tests: Path) -> str:
        """Where a browser has both folders, and the workbench run `tests` in the extension host."""
        host = self.address.partition("://")[2]
        remote = f"vscode-remote://{host}"
        payload = [
            ["extensionDevelopmentPath", f"{remote}{EXTENSION}"],
            ["extensionTestsPath", f"{remote}{tests}"],
        ]
        workspace = f"{self.address}/?workspace={quote(str(self.both))}"
        return f"{workspace}&payload={quote(json.dumps(payload))}"

    def close(self) -> None:
        """End it with all that it started, and remove what it wrote."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait()
        self._reader.join(_STOP_TIMEOUT_S)
        self._output().close()
        shutil.rmtree(self.home, ignore_errors=True)


_FLAGS = [
    "--disable-telemetry",
    "--disable-update-check",
    "--disable-getting-started-override",
]
_QUIET = {
    "workbench.colorTheme": "Default Dark Modern",
    "workbench.startupEditor": "none",
    "editor.minimap.enabled": False,
    "extensions.ignoreRecommendations": True,
    "telemetry.telemetryLevel": "off",
    "files.autoSave": "off",
}

"""The VS Code extension: checked, tested in the real extension host, and used in a browser.

The extension is packaged and installed as a release would be; a real daemon answers it.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from circuit_protocol.keys import make_key_pair
from editors.code_server import ENTRY, EXTENSION, PACKAGE, REPOSITORY, CodeServer
from whole.running import RunningDaemon

WALK_TIMEOUT_S = 600
SHOTS = REPOSITORY / "build" / "vscode"


def missing(what: str) -> None:
    """Without a tool these tests cannot run: in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, and there is no {what}")
    pytest.skip(f"there is no {what}: make test installs it where it can")


@pytest.fixture(scope="module")
def node() -> str:
    program = shutil.which("node")
    if program is None or not (EXTENSION / "node_modules" / "esbuild").is_dir():
        missing("node with the extension's packages")
    version = subprocess.check_output([program or "", "--version"], text=True).strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        missing(f"node 20 or newer: this is {version}")
    return program or ""


@pytest.fixture(scope="module")
def chromium() -> str:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("chromium")
    return program or ""


@pytest.fixture(scope="module")
def package(node: str) -> Path:
    """The extension as it would be released, and its tests."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    npm(node, "run", "--silent", "package")
    npm(node, "run", "--silent", "build", "--", "--tests")
    return PACKAGE


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon of these tests' own, with the shipped circuits only: they kill it."""
    running = RunningDaemon(CIRCUITD_CIRCUITS_DIR=str(tmp_path_factory.mktemp("circuits")))
    yield running
    # The one that the extension started afterwards.
    stop = [sys.executable, "-m", "circuitd", "stop", "--now"]
    subprocess.run(stop, env=running.environment, capture_output=True, check=False)
    running.close()


@pytest.fixture
def code_server(
    package: Path, daemon: RunningDaemon, request: pytest.FixtureRequest
) -> Iterator[CodeServer]:
    """VS Code with the package installed; with the parameter True, it asks whom to trust."""
    if not ENTRY.is_file():
        missing("code-server")
    server = CodeServer(daemon.environment, asks_for_trust=getattr(request, "param", False))
    server.install(package)
    server.start()
    yield server
    server.close()


def npm(node: str, *words: str) -> str:
    """Run npm in the extension's folder; what it prints."""
    done = subprocess.run(
        [str(Path(node).with_name("npm")), *words],
        cwd=EXTENSION,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_types_format_and_lint(node: str):
    npm(node, "run", "--silent", "check")


def test_pure_parts(node: str):
    npm(node, "test", "--silent")


def test_package_is_small_and_needs_nothing_else(package: Path):
    nbytes = package.stat().st_size
    print(f"circuit.vsix: {nbytes / 1024:.0f} KiB")
    manifest = json.loads((EXTENSION / "package.json").read_text())
    assert "extensionDependencies" not in manifest
    assert not manifest.get("dependencies")
    assert manifest["extensionKind"] == ["workspace"]
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.endswith((".node", ".so", ".map", ".ts"))]


def test_copied_python_runs_and_says_what_the_panel_says(
    node: str, package: Path, daemon: RunningDaemon
):
    say = (
        "const { asPython } = require('./build/tests/python.js');"
        "const node = { site: '0.attn.v', channel: 219 };"
        "process.stdout.write(asPython('single_double_quote/shipped/34', [node], node));"
    )
    text = subprocess.run(
        [node, "-e", say], cwd=EXTENSION, capture_output=True, text=True, check=True
    ).stdout
    ran = subprocess.run(
        [sys.executable, "-c", text],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, without, _ = ran.stdout.split("\n", 2)
    assert first.startswith("single_double_quote loss 0.0")
    assert without.startswith("without: loss 0.7")


def test_inside_the_extension_host(node: str, chromium: str, code_server: CodeServer):
    url = code_server.testing_url(EXTENSION / "build" / "tests" / "host" / "run.js")
    opened = subprocess.run(
        [
            node,
            str(EXTENSION / "build/tests/walk/visit.js"),
            chromium,
            url,
            str(code_server.results),
        ],
        capture_output=True,
        text=True,
        timeout=WALK_TIMEOUT_S,
        check=False,
    )
    assert opened.returncode == 0, opened.stdout + opened.stderr
    found = json.loads(code_server.results.read_text())
    failed = [f"{r['name']}: {r['error']}" for r in found["results"] if r["error"]]
    assert not failed, "\n".join(failed)
    assert len(found["results"]) >= 15
    print(f"{len(found['results'])} tests in {sum(r['ms'] for r in found['results']) / 1e3:.1f} s")


@pytest.mark.parametrize("code_server", [True], indirect=True)
def test_a_user_walks_through_it(
    node: str, chromium: str, code_server: CodeServer, daemon: RunningDaemon, tmp_path: Path
):
    make_key_pair("stranger", tmp_path)
    around = {
        "url": code_server.url,
        "chromium": chromium,
        "folder": str(code_server.folder),
        "settings": [str(file) for file in code_server.settings],
        "shots": str(SHOTS),
        "circuit": str(code_server.circuit),
        "daemonPid": daemon.process.pid,
        "tcp": {
            "endpoint": daemon.address("curve").endpoint,
            "serverKey": str(daemon.client_key.with_name("server.public")),
            "strangerKey": str(tmp_path / "stranger.secret"),
        },
    }
    told = code_server.home / "around.json"
    told.write_text(json.dumps(around))
    walk = subprocess.run(
        [node, str(EXTENSION / "build" / "tests" / "walk" / "walk.js"), str(told)],
        env=daemon.environment,
        cwd=EXTENSION,
        capture_output=True,
        text=True,
        timeout=WALK_TIMEOUT_S,
        check=False,
    )
    print(walk.stdout)
    assert walk.returncode == 0, f"{walk.stdout}{walk.stderr}\nscreenshots: {SHOTS}"

"""The VS Code extension in the real extension host: how long activating it takes.

Needs what `make test` installs: the extension's packages, code-server, chromium.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.daemon import home, spawned, wait_for_discovery
from benchmarks.report import Goal, Table
from benchmarks.timing import Spread

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from editors.code_server import ENTRY, EXTENSION, CodeServer

_VISIT_TIMEOUT_S = 300
_ROW = "`activate` of the extension"


def measure(bench: Bench) -> list[Table]:
    """One table; without the tools it is empty and says so."""
    table = Table(
        "vscode",
        "The VS Code extension",
        ("p50_ms",),
        notes=["The language server is started by it, and not waited for."],
    )
    chromium = shutil.which("chromium")
    if chromium is None or not ENTRY.is_file() or not (EXTENSION / "node_modules").is_dir():
        table.notes.append("Not measured: `make test` installs the VS Code that this takes.")
        return [table]
    build = ["node", "build.mjs", "--production", "--tests"]
    subprocess.run(build, cwd=EXTENSION, check=True, stdout=subprocess.DEVNULL)
    with home() as where, spawned(where, bench.data) as process:
        wait_for_discovery(where, process)
        environment = where.environment(bench.data) | {"CIRCUIT_HOST_TESTS": "^activation"}
        found = [_activation_ms(chromium, environment) for _ in range(bench.rounds(3))]
    table.add(_ROW, p50_ms=Spread.of(found))
    table.goals = (Goal(_ROW, "p50_ms", 500.0),)
    return [table]


def _activation_ms(chromium: str, environment: dict[str, str]) -> float:
    """Of a fresh server and window, as the extension host itself timed it."""
    server = CodeServer(environment)
    server.start()
    try:
        url = server.testing_url(EXTENSION / "build" / "tests" / "host" / "run.js")
        visit = ["node", str(EXTENSION / "build/tests/walk/visit.js"), chromium, url]
        subprocess.run(
            [*visit, str(server.results)],
            check=True,
            timeout=_VISIT_TIMEOUT_S,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(server.results.read_text())["figures"]["activation_ms"]
    finally:
        server.close()

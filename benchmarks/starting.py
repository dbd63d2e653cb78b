"""Starting: commands, imports, the front, and the first answer from nothing.

Files are in the page cache: a first start after boot takes longer, by what the disk takes.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.daemon import START_TIMEOUT_S, home, spawned, wait_for_discovery
from benchmarks.networks import prompt
from benchmarks.report import Table
from benchmarks.timing import Spread, local, take_turns
from circuit_client import connect

_BIN = Path(sys.executable).parent
COMMANDS: dict[str, Sequence[str]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import numpy, zmq, msgspec": (sys.executable, "-c", "import numpy, zmq, msgspec"),
    "import circuit_client": (sys.executable, "-c", "import circuit_client"),
    "from circuit_client import connect": (
        *(sys.executable, "-c"),
        "from circuit_client import connect",
    ),
    "circuit --help": (str(_BIN / "circuit"), "--help"),
    "circuitd --help": (str(_BIN / "circuitd"), "--help"),
}


def measure(bench: Bench) -> list[Table]:
    """Two tables: commands, and daemons."""
    return [_commands(bench), _daemons(bench)]


def _commands(bench: Bench) -> Table:
    def run(command: Sequence[str]) -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    subjects = {name: local(lambda c=command: run(c)) for name, command in COMMANDS.items()}
    timings = take_turns(subjects, rounds=bench.rounds(7), burst=1)
    table = Table(
        "starting-commands",
        "Commands and imports, process included",
        ("p50_ms", "p99_ms", "beyond_python_ms"),
    )
    python = timings["python -c pass"]
    for name, timing in timings.items():
        beyond = None if timing is python else timing.beyond_ms(python)
        table.add(name, p50_ms=timing.p50_ms, p99_ms=timing.p99_ms, beyond_python_ms=beyond)
    return table


def _daemons(bench: Bench) -> Table:
    starts = [_start(bench) for _ in range(bench.rounds(3))]
    table = Table(
        "starting-daemon",
        "From `circuitd serve` on",
        ("after_s",),
        notes=[
            "The front answers before its worker has imported torch; the first forward pass waits "
            "for that and for the model.",
            "The second forward pass is another prompt, not an answer from the cache.",
        ],
    )
    for name in starts[0]:
        table.add(name, after_s=Spread.of([start[name] for start in starts]))
    return table


def _start(bench: Bench) -> dict[str, float]:
    """Seconds until each step was reached, the last two from their own beginning."""
    name, config = bench.shipped.name, bench.shipped.config
    data, reached = bench.data, dict[str, float]()
    with home() as where:
        start_s = time.perf_counter()
        with spawned(where, data) as process:
            found = wait_for_discovery(where, process)
            with connect(found.endpoint, timeout_s=START_TIMEOUT_S, start=False) as client:
                reached["hello answered by the front"] = time.perf_counter() - start_s
                client.forward(name, tokens=prompt(config, 1, 32), logits="last")
                reached["first forward pass answered"] = time.perf_counter() - start_s
                again_s = time.perf_counter()
                client.forward(name, tokens=prompt(config, 1, 32, seed=1), logits="last")
                reached["second forward pass, by itself"] = time.perf_counter() - again_s
            stop_s = time.perf_counter()
            process.terminate()
            process.wait(START_TIMEOUT_S)
            reached["stopping, by itself"] = time.perf_counter() - stop_s
    return reached

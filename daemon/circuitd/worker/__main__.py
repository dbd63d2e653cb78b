"""`python -m circuitd.worker`: the front starts it, one per device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from circuitd.logs import LEVELS, log_to_stderr
from circuitd.worker.parent import EXIT_FRONT_GONE, Parent


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m circuitd.worker", description=__doc__)
    parser.add_argument("--connect", required=True, metavar="ENDPOINT", help="the front's socket")
    parser.add_argument("--segments", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--segments-nbytes", type=int, default=None, metavar="N", help="how much may lie there"
    )
    parser.add_argument("--worker-id", required=True, type=int, metavar="N")
    parser.add_argument("--device", default=None, help="like cpu or cuda:1 (default: chosen)")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="CPU threads")
    parser.add_argument(
        "--tasks", type=Path, action="append", default=[], metavar="DIR", help="task files"
    )
    parser.add_argument(
        "--circuits",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="artefact trees with circuits, the one to write to first",
    )
    parser.add_argument(
        "--executions", type=Path, default=None, metavar="DIR", help="where measurements are kept"
    )
    parser.add_argument("--front-pid", type=int, default=None, metavar="PID")
    parser.add_argument("--log-level", default="info", choices=LEVELS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; the exit status."""
    given = parse(arguments)
    log_to_stderr(given.log_level)
    parent = Parent(given.front_pid)
    parent.tie_life()
    if not parent.is_alive():  # it went before the life was tied
        return EXIT_FRONT_GONE
    # torch takes a second to import: `--help` and a wrong argument need not wait for it.
    from circuitd.worker.process import WorkerSettings, run

    settings = WorkerSettings(
        connect=given.connect,
        segments=given.segments,
        segments_nbytes=given.segments_nbytes,
        worker_id=given.worker_id,
        device=given.device,
        threads=given.threads,
        task_directories=tuple(given.tasks),
        circuit_roots=tuple(given.circuits),
        executions=given.executions,
    )
    return run(settings, parent)


if __name__ == "__main__":
    sys.exit(main())

"""Measure the paper's claims on our models, and draw the page that shows them.

python -m training.reproduction run --work WORK    about an hour on two cores; goes on where it
                                                   stopped; writes docs/reproduction/results.json
python -m training.reproduction draw               figures and tables from that file
python -m training.reproduction draw --check       exit 1 if they are not those of that file
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from training.reproduction.page import write_or_check
from training.reproduction.plan import DENSE, SPARSE
from training.reproduction.records import read_results, write_results
from training.reproduction.run import run

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m training.reproduction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure what is not measured yet")
    running.add_argument("--work", type=Path, required=True, help="scratch folder, kept to resume")
    running.add_argument("--processes", type=int, default=2)
    running.add_argument(
        "--minutes", type=float, default=math.inf, help="then begin no more; 0: none"
    )
    drawing = commands.add_parser("draw", help="write figures and tables")
    drawing.add_argument("--check", action="store_true", help="write nothing, compare")
    given = parser.parse_args(arguments)
    results = DOCS / "reproduction" / "results.json"
    if given.command == "run":
        folder: Path = given.work / "reproduction"
        write_results(results, run(folder, (SPARSE, DENSE), given.processes, given.minutes))
        return 0
    stale = write_or_check(DOCS, read_results(results), check=given.check)
    for path in stale if given.check else ():
        print(f"{path} is out of date: python -m training.reproduction draw", file=sys.stderr)
    return int(given.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

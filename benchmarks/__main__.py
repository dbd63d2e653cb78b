"""The command: runs the benchmarks and prints their tables.

    python -m benchmarks                     all, twelve minutes on two idle cores
    python -m benchmarks --quick             all, just to see that they work
    python -m benchmarks --full              all, and pruning of every task: two minutes more
    python -m benchmarks --only peers --json > peers.json

Tables (or with --json one document) go to standard output, everything else to standard error.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import (
    concurrency,
    cuda,
    editing,
    footprint,
    forwards,
    hooks,
    lsp,
    overhead,
    overtaking,
    packing,
    paper_circuits,
    peers,
    peers_paper,
    planted_truth,
    prune_memory,
    pruning,
    serving,
    starting,
    sweeps,
    transfer,
    tui,
    vscode,
)
from benchmarks.bench import Bench
from benchmarks.conditions import QUIET_LOAD, conditions, load_per_core
from benchmarks.report import Table, goals_of

BENCHMARKS: dict[str, Callable[[Bench], list[Table]]] = {
    "starting": starting.measure,
    "footprint": footprint.measure,
    "overhead": overhead.measure,
    "packing": packing.measure,
    "forward": forwards.measure,
    "hooks": hooks.measure,
    "peers": peers.measure,
    "peers_paper": peers_paper.measure,
    "transfer": transfer.measure,
    "concurrency": concurrency.measure,
    "serving": serving.measure,
    "overtaking": overtaking.measure,
    "sweeps": sweeps.measure,
    "prune": pruning.measure,
    "editing": editing.measure,
    "paper_circuits": paper_circuits.measure,
    "planted": planted_truth.measure,
    "prune_memory": prune_memory.measure,
    "lsp": lsp.measure,
    "tui": tui.measure,
    "cuda": cuda.measure,
    "vscode": vscode.measure,
}


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser("benchmarks", description="Benchmarks of circuitd")
    parser.add_argument("--quick", action="store_true", help="few repetitions: only to see it work")
    parser.add_argument("--full", action="store_true", help="also what takes minutes more")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help="some only")
    parser.add_argument("--list", action="store_true", help="print the names and exit")
    options = parser.parse_args()
    if options.list:
        print("\n".join(BENCHMARKS))
        return
    found = conditions()
    if found["load_per_core"] > QUIET_LOAD:
        print("the machine is busy: these figures say little", file=sys.stderr)
    tables: list[Table] = []
    if not options.json:
        print(_describe(found), flush=True)
    with Bench(quick=options.quick, full=options.full) as bench:
        for name in options.only or BENCHMARKS:
            bench.say(f"{name} …")
            start_s = time.monotonic()
            for table in BENCHMARKS[name](bench):
                tables.append(table)
                if not options.json:
                    print("\n" + table.to_markdown(), flush=True)
            bench.say(f"  {time.monotonic() - start_s:.0f} s")
    found["load_per_core_at_end"] = round(load_per_core(), 2)
    if options.json:
        document = {"conditions": found, "tables": [table.to_json() for table in tables]}
        print(json.dumps(document, indent=1))
    elif goals := goals_of(tables):
        print(f"\n{goals.to_markdown()}")


def _describe(found: dict[str, Any]) -> str:
    return "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in found.items())


if __name__ == "__main__":
    main()

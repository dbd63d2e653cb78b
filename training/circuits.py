"""The circuits that ship with a model: found and put to their controls by a daemon of its own.

`python -m training.circuits --name csd-py-sparse` prunes every task that the model does well, at
several target losses, into `data/viz/`, and verifies every circuit. What is there already is found
again in its place.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from circuit_client import Connection, connect
from circuit_protocol.errors import CircuitError

DATA = Path(__file__).parents[1] / "data"
#: The larger half of the paper's sweep of Fig. 2: our model's own losses leave no room below.
TARGET_LOSSES = (0.5, 0.35, 0.15, 0.05)
#: A task belongs if the model's held-out loss leaves room below the smallest target worth asking.
WELL_DONE_LOSS = 0.1
SWEEP = "shipped"


@contextmanager
def own_daemon() -> Iterator[Connection]:
    """A daemon that keeps its circuits in `data/`; nobody else's is used or disturbed."""
    with tempfile.TemporaryDirectory(prefix="circuitd-circuits-") as directory:
        os.environ.update(
            CIRCUITD_RUNTIME_DIR=str(Path(directory, "run")),
            CIRCUITD_STATE_DIR=str(Path(directory, "state")),
            CIRCUITD_CACHE_DIR=str(Path(directory, "cache")),
            CIRCUITD_CIRCUITS_DIR=str(DATA),
        )
        circuitd = Path(sys.executable).parent / "circuitd"
        subprocess.run([circuitd, "start"], check=True)
        try:
            with connect() as client:
                yield client
        finally:
            subprocess.run([circuitd, "stop"], check=True)


def tasks_done(client: Connection, model: str) -> list[str]:
    """The tasks that `model` does well on held-out pairs."""
    scores = client.tasks.evaluate(model=model, n=256).scores
    return [s.task for s in scores if s.loss is not None and s.loss <= WELL_DONE_LOSS]


def find(client: Connection, model: str, tasks: Sequence[str], seed: int, verify: bool) -> None:
    """Prune and, where asked for, verify; one line per circuit."""
    for task in tasks:
        began = time.monotonic()
        try:
            result = client.prune(
                model, tasks=[task], target_losses=TARGET_LOSSES, seeds=[seed], sweep=SWEEP
            )
        except CircuitError as error:
            print(f"{task}: {error}", flush=True)
            continue
        for circuit in result.circuits:
            m = circuit.measured
            print(
                f"{task:28} target {circuit.target_loss:<6g} nodes {m.k:5d} edges {m.n_edges:6d} "
                f"loss {m.loss:.4f} held out {m.held_out_loss:.4f} {circuit.id}",
                flush=True,
            )
        for failure in result.failures:
            print(f"{task:28} target {failure.target_loss:<6g} {failure.error.message}", flush=True)
        print(f"{task:28} {time.monotonic() - began:.0f} s", flush=True)
        if not verify:
            continue
        for circuit in {circuit.id: circuit for circuit in result.circuits}.values():
            card = client.verify(circuit, model)
            print(f"{task:28} {card.verdict}, {card.seconds:.0f} s {circuit.id}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the model in data/models")
    parser.add_argument("--task", action="append", help="only this task; any number of times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-verify", action="store_true")
    given = parser.parse_args()
    with own_daemon() as client:
        tasks = given.task or tasks_done(client, given.name)
        find(client, given.name, tasks, given.seed, not given.no_verify)


if __name__ == "__main__":
    main()

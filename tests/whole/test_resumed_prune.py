"""A prune job whose worker or whole daemon is killed while it learns goes on to the same bits."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from safetensors.numpy import load_file

from circuit_client import Connection, connect
from circuit_protocol.circuits import Circuit, CircuitDetails, PruneSettings
from circuit_protocol.replies import Progress
from whole.running import RunningDaemon
from worker_desk import write_model

#: Seconds of learning: a checkpoint is written every half.
SETTINGS = PruneSettings(n_steps=400, n_pairs_per_step=8)
ASKED: dict[str, Any] = {
    "tasks": "for_while",
    "ks": (4, 11),
    "seeds": 3,
    "settings": SETTINGS,
    "n_pairs": 8,
    "n_held_out_pairs": 8,
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that may be killed, and a model so small that learning takes seconds."""
    root = tmp_path_factory.mktemp("resumed")
    write_model(root / "models" / "tiny")
    running = RunningDaemon(CIRCUITD_DATA=str(root), CIRCUITD_CIRCUITS_DIR=str(root / "found"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def uninterrupted(own: RunningDaemon) -> list[tuple[Circuit, CircuitDetails]]:
    """What the request finds when nothing happens to it."""
    with connected(own) as c:
        return found(c, c.prune("tiny", sweep="uninterrupted", **ASKED).circuits)


def connected(own: RunningDaemon) -> Connection:
    return connect(own.address("ipc").endpoint, start=False)


def found(c: Connection, summaries: Any) -> list[tuple[Circuit, CircuitDetails]]:
    """Circuits and details as stored, without what no two runs share: time."""
    shown = [c.circuits.show(f"{s.task}/{s.sweep}/{s.label}") for s in summaries]
    return [
        (
            replace(s.circuit, found=replace(s.circuit.found, created_at_s=0.0, seconds=0.0)),
            replace(s.details, seconds=0.0),
        )
        for s in shown
        if s.details is not None
    ]


def learned_steps(checkpoint: Path) -> int:
    return int(load_file(checkpoint)["step"])


def kill_worker(own: RunningDaemon, c: Connection) -> None:
    (worker,) = (p.pid for p in c.status().processes if p.role == "worker")
    os.kill(worker, signal.SIGKILL)


def kill_daemon(own: RunningDaemon, c: Connection) -> None:
    own.process.kill()
    own.process.wait()


@pytest.mark.parametrize("kill", [kill_worker, kill_daemon])
def test_a_prune_killed_while_it_learns_ends_in_the_same_circuits(
    own: RunningDaemon,
    uninterrupted: list[tuple[Circuit, CircuitDetails]],
    kill: Callable[[RunningDaemon, Connection], None],
) -> None:
    sweep = kill.__name__
    with connected(own) as c:
        job = c.prune.detach("tiny", sweep=sweep, **ASKED)
        checkpoint = own.home / "state" / "jobs" / job.name / "pruner.safetensors"
        for _ in job.watch():  # each event is a reason to look again
            if checkpoint.exists():
                break
        n_learned = learned_steps(checkpoint)
        kill(own, c)
    assert 0 < n_learned < SETTINGS.n_steps
    if own.process.poll() is not None:
        own.start()

    with connected(own) as c:
        stream = c.jobs.watch(job.name)
        learning = [e for e in stream if isinstance(e, Progress) and e.stage == "prune"]
        result = stream.result()
        # It went on from the checkpoint, and did not start anew.
        assert learning[0].done >= 0.99 * (n_learned - 1) / SETTINGS.n_steps
        assert c.jobs.get(job.name).resumes == 1
        assert [s.label for s in result.circuits] == ["4", "11"]
        assert found(c, result.circuits) == uninterrupted
        assert not checkpoint.exists()

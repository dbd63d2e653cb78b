"""A worker process from start to end: torch set up for one device, the I/O thread, the loop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from circuitd import work
from circuitd.engine import device as engine_device
from circuitd.store.circuits import CircuitStore
from circuitd.store.executions import Executions
from circuitd.store.roots import artefact_roots, circuit_roots
from circuitd.store.segments import SegmentDir
from circuitd.tasks.registry import TaskRegistry
from circuitd.worker import memory
from circuitd.worker.connection import Connection
from circuitd.worker.handlers import all_handlers
from circuitd.worker.host import Host
from circuitd.worker.inbox import Inbox
from circuitd.worker.loop import Loop, Poisoned
from circuitd.worker.models import Models
from circuitd.worker.parent import EXIT_FRONT_GONE, Parent
from circuitd.worker.tokenizers import Tokenizers

_log = logging.getLogger(__name__)

#: Exit status beside 0 (the front said so) and EXIT_FRONT_GONE.
EXIT_DEVICE_LOST: Final = 4


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the front says on the command line.

    `segments_nbytes` is how many bytes of tensors may lie in `segments` (None: as fit).
    `circuit_roots` are artefact trees with circuits, the one to write to first; `executions` is
    where it is kept which execution a model is fastest on (None: nowhere); `threads` is how
    many CPU threads torch may use (None: all the process may run on).
    """

    connect: str
    segments: Path
    worker_id: int
    segments_nbytes: int | None = None
    device: str | None = None
    threads: int | None = None
    task_directories: Sequence[Path] = ()
    circuit_roots: Sequence[Path] = ()
    executions: Path | None = None


def run(settings: WorkerSettings, parent: Parent) -> int:
    """Serve until the front, `parent`, says exit or goes away. Returns the exit status.

    Raises DeviceError for a device that this machine does not have.
    """
    device = set_up_torch(settings.device, settings.threads)
    writable, *read_only = settings.circuit_roots or circuit_roots(None)
    host = Host(
        models=Models(device, Tokenizers(artefact_roots()), Executions(settings.executions)),
        segments=SegmentDir(settings.segments, budget_nbytes=settings.segments_nbytes),
        tasks=TaskRegistry(settings.task_directories),
        circuits=CircuitStore(writable, read_only),
    )
    inbox = Inbox()
    connection = Connection(
        settings.connect,
        work.worker_address(settings.worker_id, parent.pid),
        inbox,
        heartbeat=lambda: work.Heartbeat(
            rss_nbytes=memory.rss_nbytes(),
            device_used_nbytes=memory.device_used_nbytes(device),
        ),
        on_front_gone=_leave,
        front_is_alive=parent.is_alive,
    )
    connection.send(
        work.Ready(pid=os.getpid(), device=str(device), memory_nbytes=memory.total_nbytes(device))
    )
    connection.start()
    _log.info("worker %d serves %s", settings.worker_id, device)
    try:
        Loop(inbox, connection.send, host, all_handlers()).run()
    except Poisoned as error:
        _log.error("the device is lost, this worker ends: %s", error)
        return EXIT_DEVICE_LOST
    finally:
        connection.close()
    return 0


def set_up_torch(device: str | None, threads: int | None) -> torch.device:
    """Choose the device, and make results exact and repeatable where that costs nothing."""
    started_s = time.perf_counter()
    torch.set_num_threads(threads or _n_cores())
    engine_device.require_exact_float32()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    chosen = engine_device.pick_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # The first operations load kernels and start the thread pool: not on a user's time.
    warm = torch.ones(64, 64, device=chosen)
    (warm @ warm).log_softmax(-1).topk(4)
    _log.debug("torch was ready after %.3f s", time.perf_counter() - started_s)
    return chosen


def _n_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _leave(reason: str) -> None:
    """End the process from the I/O thread: nobody is left to answer, and a step may take long."""
    _log.warning("%s: this worker ends", reason)
    logging.shutdown()
    os._exit(EXIT_FRONT_GONE)

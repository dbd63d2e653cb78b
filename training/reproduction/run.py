"""Carry out the plan: units on a few processes of one thread each, resumable after every unit."""

from __future__ import annotations

import functools
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

import torch

import circuitd
from circuitd.tasks.errors import TaskError
from circuitd.tasks.registry import TaskRegistry
from training.reproduction import grounds, measure
from training.reproduction.plan import Unit, done, units
from training.reproduction.records import (
    Conditions,
    Record,
    Results,
    Whole,
    read_records,
    write_records,
)


def run(
    folder: Path, models: Iterable[str], n_processes: int, minutes: float = math.inf
) -> Results:
    """Measure what is not in `folder` yet; everything that is there, as results.

    After `minutes` no unit is begun any more: results are then of what was measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    models = tuple(models)
    ends = time.monotonic() + 60 * minutes
    context = multiprocessing.get_context("spawn")  # threads do not survive a fork
    pool = ProcessPoolExecutor(n_processes, context, initializer=_one_thread)
    try:
        first = [Unit("whole", model, task) for model in models for task in TaskRegistry().names()]
        records = _carry_out(pool, folder, first, ends)
        tasks = done([record for record in records if isinstance(record, Whole)])
        records += _carry_out(pool, folder, list(units(tasks)), ends)
    finally:
        pool.shutdown(cancel_futures=True)
    conditions = Conditions(
        date=datetime.now(UTC).date().isoformat(),
        version=circuitd.__version__,
        models=tuple(grounds.load(model).facts for model in models),
        settings={
            name: getattr(measure.SETTINGS, name) for name in measure.SETTINGS.__struct_fields__
        },
        n_pairs=grounds.N_PAIRS,
        n_held_out_pairs=grounds.N_HELD_OUT_PAIRS,
        n_pool_pairs=grounds.N_POOL_PAIRS,
        data_seed=grounds.DATA_SEED,
    )
    return Results(conditions=conditions, records=tuple(records))


def _carry_out(
    pool: ProcessPoolExecutor, folder: Path, wanted: list[Unit], ends: float
) -> list[Record]:
    """Measure the units whose files are missing, beginning none after `ends` (monotonic); the
    records of all that are there, in the order of the plan.
    """
    began = time.monotonic()
    left = [unit for unit in wanted if not (folder / unit.file_name).exists()]
    left = left if began < ends else []
    futures = {pool.submit(_measure, unit, folder): unit for unit in left}
    for n_done, future in enumerate(as_completed(futures), start=1):
        if future.cancelled():
            continue
        print(
            f"{n_done}/{len(left)} {futures[future].file_name} {future.result():.0f} s, "
            f"{time.monotonic() - began:.0f} s in all",
            file=sys.stderr,
            flush=True,
        )
        if time.monotonic() > ends:
            for waiting in futures:
                waiting.cancel()
    kept = [folder / unit.file_name for unit in wanted]
    return [record for path in kept if path.exists() for record in read_records(path)]


def _measure(unit: Unit, folder: Path) -> float:
    """In a process of the pool: carry out a unit, keep its records; seconds it took."""
    began = time.monotonic()
    try:
        records = unit.measure(_subject(unit.model))
    except TaskError as error:  # a task that this tokenizer cannot ask
        print(f"{unit.task}: {error}", file=sys.stderr, flush=True)
        records = []
    write_records(folder / unit.file_name, records)
    return time.monotonic() - began


@functools.cache
def _subject(model: str) -> grounds.Subject:
    return grounds.load(model)


def _one_thread() -> None:
    torch.set_num_threads(1)

"""How long something takes, at best: what executions are compared by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch

#: Seconds that timing one thing should take.
_SLICE_S: Final = 5e-3
#: How often what is compared takes its turn, however long that takes.
_LEAST_TURNS: Final = 3


def fastest(work: Callable[[], object], device: torch.device = torch.device("cpu")) -> float:  # noqa: B008 - immutable
    """Seconds of the fastest run among those that fit into a few milliseconds; at least one.

    On CUDA it is what the device takes that counts, not the launching: `work` is captured first,
    and must not wait for the device.
    """
    best, spent = float("inf"), 0.0
    if device.type == "cuda":
        from circuitd.engine.cuda.replay import captured

        work = captured(work)
    _wait_for(device)
    while spent < _SLICE_S:
        began = time.perf_counter()
        work()
        _wait_for(device)
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return best


def race(*works: Callable[[], object]) -> tuple[float, ...]:
    """Seconds of the fastest run of each of `works` on the CPU, which take turns: so whatever else
    the machine does while it is measured, it does to all of them.
    """
    best, spent, n_turns = [float("inf")] * len(works), 0.0, 0
    while n_turns < _LEAST_TURNS or spent < _SLICE_S * len(works):
        for i, work in enumerate(works):
            began = time.perf_counter()
            work()
            took = time.perf_counter() - began
            best[i], spent = min(best[i], took), spent + took
        n_turns += 1
    return tuple(best)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

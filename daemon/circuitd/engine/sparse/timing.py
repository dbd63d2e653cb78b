"""How long something takes, at best: what executions are compared by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch

#: Seconds that timing one thing should take.
_SLICE_S: Final = 5e-3


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


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

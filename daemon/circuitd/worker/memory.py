"""Memory of this worker's device: what there is, what is held, and how to make it really return."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import Any, Final

import torch

from circuit_protocol.errors import OutOfMemory
from circuitd.engine import device as engine_device

#: Less than this is not worth asking the system how much is free.
_SMALL_NBYTES: Final = 64 << 20
#: Where Linux says how much a container may use (control groups, version 2).
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


def rss_nbytes() -> int:
    """Resident set size of this process."""
    return engine_device.memory(torch.device("cpu")).held_nbytes


def held_nbytes(device: torch.device) -> int:
    """What counts against the device: torch's reserve there, or for the CPU the process's size."""
    return engine_device.memory(device).held_nbytes


def device_used_nbytes(device: torch.device) -> int:
    """Bytes reserved on an accelerator; 0 for the CPU, where the process's size says it."""
    return 0 if device.type == "cpu" else held_nbytes(device)


def total_nbytes(device: torch.device) -> int:
    """What the device has in all; of the machine's memory, what this container may use."""
    total = engine_device.memory(device).total_nbytes
    if device.type != "cpu":
        return total
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def require(device: torch.device, nbytes: int, what: str) -> None:
    """Raise OutOfMemory now where `nbytes` would not fit, before the system ends the process."""
    if nbytes < _SMALL_NBYTES:
        return
    free = engine_device.memory(device).free_nbytes
    if nbytes > free:
        raise OutOfMemory(
            f"there is no memory for {what}",
            asked=f"{nbytes} bytes",
            found=f"{free} bytes are free",
            hint="Send fewer rows, or record fewer sites, positions or channels, or reduce them",
        )


def give_back(device: torch.device) -> None:
    """Return freed memory to the device and the system, so that others can have it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if _malloc_trim is not None:
        _malloc_trim(0)  # glibc keeps what was freed in its arenas otherwise


def _find_malloc_trim() -> Any:
    """The `malloc_trim` of glibc; other C libraries have no such function, and no such need."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


_malloc_trim: Final = _find_malloc_trim()

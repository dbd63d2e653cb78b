"""Devices: which one a model goes to, in which dtype, and how much memory it has left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from circuitd.engine.errors import DeviceError

DTypeName = Literal["float32", "bfloat16", "float16"]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of one device: in all, free for everybody, and held by this process.

    On an accelerator `held_nbytes` is what torch has reserved; on the CPU it is the resident set.
    """

    total_nbytes: int
    free_nbytes: int
    held_nbytes: int


def pick_device(asked: str | None = None) -> torch.device:
    """The device of that name, or by itself the CUDA device with most free memory, else the CPU.

    Raises `DeviceError` for a device that torch does not know or this machine does not have.
    """
    if asked is not None:
        try:
            device = torch.device(asked)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DeviceError(f"device {asked!r}", reason, "cpu always exists") from error
        return device
    if torch.cuda.is_available():
        free = [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]
        return torch.device("cuda", free.index(max(free)))
    return torch.device("cpu")


def memory(device: torch.device) -> DeviceMemory:
    """Measured memory of `device` now."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return DeviceMemory(total, free, torch.cuda.memory_reserved(device))
    machine = psutil.virtual_memory()
    return DeviceMemory(machine.total, machine.available, psutil.Process().memory_info().rss)


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype called `name`; raises `DeviceError` for one that models do not run in."""
    if name not in DTYPES:
        raise DeviceError(f"dtype {name!r}", "models do not run in it", ", ".join(DTYPES))
    return DTYPES[name]


def require_exact_float32() -> None:
    """Turn TF32 off for this process: float32 means float32 (the default, but not law)."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False

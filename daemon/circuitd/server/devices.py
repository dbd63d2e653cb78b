"""Which devices get a worker. torch knows, and the front must not import it: a process asks it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_QUESTION: Final = (
    "import torch;print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
)
_PATIENCE_S: Final = 60.0


async def choose_devices(setting: str | Sequence[str]) -> tuple[str, ...]:
    """The devices asked for; for "auto" every CUDA device, else the CPU.

    Without an NVIDIA driver nothing is asked, so that starting costs no import of torch.
    """
    if not isinstance(setting, str):
        return tuple(setting)
    if not _has_nvidia_driver():
        return ("cpu",)
    n = await _count_cuda_devices()
    return tuple(f"cuda:{i}" for i in range(n)) or ("cpu",)


def _has_nvidia_driver() -> bool:
    return Path("/dev/nvidiactl").exists()


async def _count_cuda_devices() -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _QUESTION, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
        return int(output)
    except (TimeoutError, ValueError):
        log.warning("the CUDA devices could not be counted: the CPU is used")
        if process.returncode is None:
            process.kill()
            await process.wait()
        return 0

"""Whether the CUDA kernels can run on a device, and if not, why."""

from __future__ import annotations

import functools
import importlib.util

import torch

#: The oldest GPUs that Triton compiles for.
_CAPABILITY = (7, 0)


@functools.cache
def why_not(device: torch.device) -> str | None:
    """What keeps the kernels off `device`; None when nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "Triton, which comes with CUDA builds of torch, is not installed"
    if device.type != "cuda":
        return None if _is_interpreted() else f"it is on {device}"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return f"Triton does not compile for {torch.cuda.get_device_name(device)}"
    return None


def _is_interpreted() -> bool:
    """With TRITON_INTERPRET=1 numpy carries the kernels out, on the CPU: to test them."""
    from triton import knobs  # pyright: ignore[reportMissingImports]

    return bool(knobs.runtime.interpret)

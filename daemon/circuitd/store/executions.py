"""Which execution was measured to be the fastest for a model on this machine, one file per model.

What is kept is worth a fraction of a second: a file that cannot be read, or that was measured on
another machine, with other kernels or libraries or another number of threads, is measured again.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import secrets
from pathlib import Path
from typing import Final

import msgspec
import torch

from circuitd import __version__
from circuitd.engine.sparse.choice import Choice
from circuitd.engine.sparse.sources import digest_of_execution

_CPU: Final = torch.device("cpu")
_log = logging.getLogger(__name__)


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The file: a choice, and where it holds."""

    machine: dict[str, str]
    is_sparse: tuple[tuple[bool, ...], ...]
    reason: str
    dense_s: float
    sparse_s: float


class Executions:
    """The files in `directory`; None keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find(
        self, model_hash: str, device: torch.device = _CPU, dtype: torch.dtype = torch.float32
    ) -> Choice | None:
        """What was measured for this model on `device` in `dtype`, if anything was."""
        if self._directory is None:
            return None
        try:
            text = self._path(model_hash, device, dtype).read_bytes()
            measured = msgspec.json.decode(text, type=_Measured)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("the execution of %s is measured again: %s", model_hash[:12], error)
            return None
        if measured.machine != _machine(device):
            return None
        return Choice(measured.is_sparse, measured.reason, measured.dense_s, measured.sparse_s)

    def keep(
        self,
        model_hash: str,
        choice: Choice,
        device: torch.device = _CPU,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Remember `choice`, or log why that is impossible."""
        if self._directory is None:
            return
        measured = _Measured(
            machine=_machine(device),
            is_sparse=choice.is_sparse,
            reason=choice.reason,
            dense_s=choice.dense_s,
            sparse_s=choice.sparse_s,
        )
        path = self._path(model_hash, device, dtype)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            _log.warning("the execution of %s is not remembered: %s", model_hash[:12], error)

    def _path(self, model_hash: str, device: torch.device, dtype: torch.dtype) -> Path:
        assert self._directory is not None  # the callers looked
        where = (
            "" if device.type == "cpu" else f".{device.type}.{str(dtype).removeprefix('torch.')}"
        )
        return self._directory / f"{model_hash}{where}.json"


def _machine(device: torch.device) -> dict[str, str]:
    """What a measurement depends on besides the model."""
    is_cuda = device.type == "cuda"
    return {
        "processor": torch.cuda.get_device_name(device) if is_cuda else _processor(),
        "threads": str(torch.get_num_threads()),
        "circuitd": __version__,
        "torch": str(torch.__version__),
        "kernels": digest_of_execution(),
        "numba": importlib.metadata.version("numba"),
    }


def _processor() -> str:
    """The processor's name, which only Linux's list of processors is sure to tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()

"""Load a model directory into weights: checked before anything is allocated, run as data only.

Three forms are read: safetensors, safetensors packed to the nonzeros, and `final_model.pt`, a torch
state dict, which is unpickled with `weights_only=True`: a pickle that names a function is refused.
Whatever the form, sparse matrices are held as their nonzeros.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from circuit_protocol.errors import CheckpointError
from circuitd.engine.config import GPTConfig, parse_config
from circuitd.engine.errors import ConfigError, WeightsError
from circuitd.engine.nonzeros import Nonzeros
from circuitd.engine.weights import (
    Weights,
    check_shapes,
    expected_shapes,
    is_ignored,
    optional_shapes,
)
from circuitd.store.model_files import ModelFiles, model_files, model_hash, read_config
from circuitd.store.packed import compress, content_hash, is_packed, state_of

#: A model whose tensors would be larger is refused before any of them is allocated.
MAX_MODEL_NBYTES: Final = 64 << 30
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network in memory and where it came from.

    `model_hash` identifies configuration and weights; `notes` say what a user should know (keys
    of the configuration that nobody knows, which of two weight files was read).
    """

    config: GPTConfig
    weights: Weights
    source: str
    model_hash: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class OpenedState:
    """The state dict of a weights file, mapped into memory; of what is packed, the nonzeros."""

    tensors: Mapping[str, Tensor | Nonzeros]
    is_packed: bool
    #: Known where the file has a checksum, which is it.
    content_hash: str | None = None

    def compressed(self, name: str) -> Tensor | Nonzeros:
        """One tensor as a packed file has it."""
        value = self.tensors[name]
        return value if self.is_packed or isinstance(value, Nonzeros) else compress(value)


def load_checkpoint(
    path: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    max_nbytes: int = MAX_MODEL_NBYTES,
) -> LoadedModel:
    """Read the model directory `path`.

    Raises `CheckpointError` for whatever is wrong with it: missing, truncated or foreign files,
    pickles that would run code, impossible configurations, tensors that do not fit, a model of more
    than `max_nbytes`, and files that were replaced while they were read.
    """
    files = model_files(path)
    config, notes = read_checked_config(files, max_nbytes)
    opened = open_state(config, files)
    # Tensors made under inference mode could not take part in a later gradient.
    with torch.inference_mode(False), torch.no_grad():
        state = {name: opened.compressed(name) for name in opened.tensors}
    try:
        # What is packed stays mapped; of a dense file every page would stay with it.
        weights = Weights.from_state(config, state, dtype, device, copy=not opened.is_packed)
    except WeightsError as error:
        raise _misfit(files, error) from error
    if model_files(path) != files:
        raise CheckpointError(
            "the model changed while it was read",
            asked=str(files.directory),
            found="another size, time or inode",
            hint="ask again when writing is done; write to another name, then rename",
        )
    digest = model_hash(files, opened.content_hash or content_hash(state))
    return LoadedModel(config, weights, str(files.directory), digest, notes)


def read_checked_config(
    files: ModelFiles, max_nbytes: int = MAX_MODEL_NBYTES
) -> tuple[GPTConfig, tuple[str, ...]]:
    """The configuration of model files, and notes on it. Raises `CheckpointError` where no network
    can have it, or one of more than `max_nbytes`, or none that these weights fill.
    """
    try:
        config, unknown = parse_config(read_config(files))
    except ConfigError as error:
        raise CheckpointError(
            "no network can have this configuration",
            asked=str(files.config.path),
            found=error.found,
        ) from error
    notes = [f"unknown configuration key {key!r} was not used" for key in unknown]
    other = files.directory / "final_model.pt"
    if files.weights.path.suffix == ".safetensors" and other.exists():
        notes.append(f"read {files.weights.path.name}, not {other.name} beside it")
    _check_size(config, files, max_nbytes)
    return config, tuple(notes)


def _check_size(config: GPTConfig, files: ModelFiles, max_nbytes: int) -> None:
    n_entries = sum(math.prod(shape) for shape in expected_shapes(config).values())
    if 4 * n_entries > max_nbytes:
        raise CheckpointError(
            "the model is too large",
            asked=str(files.config.path),
            found=f"its tensors take {4 * n_entries} bytes in float32, the limit is {max_nbytes}",
        )
    if files.weights.path.suffix == ".pt" and files.weights.nbytes < 2 * n_entries:
        raise CheckpointError(
            "the weights file is too short for this configuration",
            asked=str(files.weights.path),
            found=f"{files.weights.nbytes} bytes for {n_entries} numbers",
            hint="was it written or fetched completely?",
        )


def open_state(config: GPTConfig, files: ModelFiles) -> OpenedState:
    """The weights file as it is, nothing of it copied, less what no network needs.

    Raises `CheckpointError` as above. Names and shapes are checked, values are not.
    """
    path = files.weights.path
    is_pt = path.suffix != ".safetensors"
    with torch.inference_mode(False):
        opened = OpenedState(_read_pt(path), False) if is_pt else _open_safetensors(config, path)
    for name, value in opened.tensors.items():
        if isinstance(value, Nonzeros):
            continue
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            raise CheckpointError(
                "the weights file is no plain state dict",
                asked=str(path),
                found=f"{name!r} is {type(value).__name__}, not a dense tensor",
                hint="save model.state_dict() itself",
            )
    try:
        check_shapes(config, opened.tensors)
    except WeightsError as error:
        raise _misfit(files, error) from error
    needed = {name: value for name, value in opened.tensors.items() if not is_ignored(name)}
    return replace(opened, tensors=needed)


def _read_pt(path: Path) -> Mapping[str, Tensor]:
    _check_zip(path)
    try:
        with warnings.catch_warnings():
            # It doubts other protocols than its own, and refuses what it cannot read all the same.
            warnings.simplefilter("ignore", UserWarning)
            state: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        name = _FORBIDDEN_GLOBAL.search(str(error))
        found = f"it names {name[1]}" if name else str(error).splitlines()[0][:300]
        raise CheckpointError(
            "the weights file is not only data; nothing of it was run",
            asked=str(path),
            found=found,
            hint="save tensors only: torch.save(model.state_dict(), …), or use safetensors",
        ) from error
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            "the weights file is no state dict", asked=str(path), found=type(state).__name__
        )
    return state


def _check_zip(path: Path) -> None:
    """Refuse what is no complete archive of stored records, before torch trusts its sizes."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if compressed:
        raise CheckpointError(
            "the weights file is compressed, which torch.save never does", asked=str(path)
        )


def _open_safetensors(config: GPTConfig, path: Path) -> OpenedState:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if is_packed(metadata):
                _check_packed_shapes(config, path, metadata)
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    if not is_packed(metadata):
        return OpenedState(stored, False)
    try:
        return OpenedState(state_of(stored, metadata), True, metadata.get("sha256"))
    except CheckpointError as error:
        error.asked = str(path)  # which tensors are wrong is known there, in which file only here
        raise


def _check_packed_shapes(config: GPTConfig, path: Path, metadata: Mapping[str, str]) -> None:
    """A packed file of a few bytes may claim matrices of any size: believe only the config's."""
    try:
        shapes = json.loads(metadata.get("shapes", ""))
    except (ValueError, RecursionError):
        return  # `unpack` refuses it with its reason
    known = {**expected_shapes(config), **optional_shapes(config)}
    claimed = shapes.items() if isinstance(shapes, dict) else ()
    wrong = [
        f"{name} is {shape}, not {known.get(name, 'in this model')}"
        for name, shape in claimed
        if not isinstance(shape, list) or tuple(shape) != known.get(name)
    ]
    if wrong:
        raise CheckpointError(
            "the packed tensors do not fit the model configuration",
            asked=str(path),
            found="; ".join(wrong[:8]),
        )


def _misfit(files: ModelFiles, error: WeightsError) -> CheckpointError:
    return CheckpointError(
        "the tensors do not fit the model configuration",
        asked=str(files.weights.path),
        found=error.found,
        hint="does beeg_config.json belong to these weights?",
    )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    first_line = (str(error).splitlines() or [""])[0]
    return CheckpointError(
        "the weights file cannot be read",
        asked=str(path),
        found=f"{type(error).__name__}: {first_line}"[:300],
        hint="was it written or fetched completely?",
    )

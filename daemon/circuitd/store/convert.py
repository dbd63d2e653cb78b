"""Convert a model directory to the packed or the plain form, bit for bit.

The new directory is written beside its destination, read back and compared by its content's hash,
and only then takes its name: whoever sees it sees all of it.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from circuit_protocol.endpoints import data_dir
from circuit_protocol.errors import CheckpointError, InvalidRequest, StorageFull
from circuitd.engine.config import GPTConfig
from circuitd.engine.nonzeros import Nonzeros
from circuitd.store.checkpoint import open_state, read_checked_config
from circuitd.store.model_files import (
    CONFIG_FILE,
    MEANS_FILE,
    WEIGHT_FILES,
    ModelFiles,
    model_files,
    model_hash,
)
from circuitd.store.packed import content_hash, parts_of
from circuitd.store.pretraining_sample import SAMPLE_FILE
from circuitd.store.safetensors_file import Kind, kind_of, write_safetensors

#: What goes along besides configuration and weights.
_COMPANIONS: Final = (
    MEANS_FILE,
    SAMPLE_FILE,
    "pretraining_sample.LICENSES.txt",
    *("README.md", "MODEL_CARD.md", "model_card.md"),
)
_WEIGHTS_FILE: Final = WEIGHT_FILES[0]
#: Left free on the disk.
_RESERVE_NBYTES: Final = 64 << 20

Form = Literal["packed", "plain"]


class Stage(NamedTuple):
    """How far a conversion is."""

    name: Literal["reading", "writing", "reading back"]
    n_done: int
    n_tensors: int


@dataclass(frozen=True)
class Converted:
    """A model in its new form; bytes are those of the weights files."""

    directory: Path
    model_hash: str
    nbytes_before: int
    nbytes_after: int


def destination_of(name_or_path: str) -> Path:
    """Where a model is written: a path as it is, a name in the user's artefact tree."""
    if is_path(name_or_path):
        return Path(name_or_path).expanduser().absolute()
    return (data_dir() / "models" / name_or_path).absolute()


def is_path(name_or_path: str) -> bool:
    """Whether a text means a path, as `find_model` takes it."""
    return os.sep in name_or_path or name_or_path.startswith(("~", "."))


def convert(
    source: Path, destination: Path, form: Form, *, overwrite: bool = False
) -> Generator[Stage, None, Converted]:
    """Write the model directory `source` to `destination` in another form.

    Raises `InvalidRequest` where something is there already, unless it is a model and `overwrite`
    says to replace it; `StorageFull` before anything is written that would not fit;
    `CheckpointError` for a model that cannot be read.
    """
    files = model_files(source)
    config, _ = read_checked_config(files)
    _check_destination(files.directory, destination, overwrite)
    opened = open_state(config, files)
    state: dict[str, Tensor | Nonzeros] = {}
    for name in opened.tensors:
        yield Stage("reading", len(state), len(opened.tensors))
        state[name] = opened.compressed(name)
    parts, metadata = parts_of(state)
    if form == "packed":
        kinds = {name: kind_of(part) for name, part in parts.items()}
    else:
        kinds = {name: _kind(value) for name, value in state.items()}
    destination.parent.mkdir(parents=True, exist_ok=True)
    _check_room(destination.parent, kinds)
    unfinished = Path(
        tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent)
    )  # of mode 0700 until it is whole
    try:
        written = write_safetensors(
            unfinished / _WEIGHTS_FILE,
            kinds,
            parts.__getitem__ if form == "packed" else lambda name: _dense(state[name]),
            metadata if form == "packed" else {"format": "pt"},
        )
        for n_written, _ in enumerate(written):
            yield Stage("writing", n_written + 1, len(kinds))
        shutil.copyfile(files.config.path, unfinished / CONFIG_FILE)
        for companion in _COMPANIONS:
            if (files.directory / companion).is_file():
                shutil.copyfile(files.directory / companion, unfinished / companion)
        yield from _compare(config, model_files(unfinished), metadata["sha256"])
        unfinished.chmod(0o755)
        _put(unfinished, destination)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    new = model_files(destination)
    digest = model_hash(new, metadata["sha256"])
    return Converted(destination, digest, files.weights.nbytes, new.weights.nbytes)


def _kind(value: Tensor | Nonzeros) -> Kind:
    return (torch.float32, value.shape) if isinstance(value, Nonzeros) else kind_of(value)


def _dense(value: Tensor | Nonzeros) -> Tensor:
    return torch.from_numpy(value.dense()) if isinstance(value, Nonzeros) else value


def _compare(config: GPTConfig, files: ModelFiles, expected: str) -> Generator[Stage, None, None]:
    """Read the new weights back. Raises `CheckpointError` if they are not those of `expected`."""
    opened = open_state(config, files)
    state: dict[str, Tensor | Nonzeros] = {}
    for name in opened.tensors:
        yield Stage("reading back", len(state), len(opened.tensors))
        state[name] = opened.compressed(name)
    if (found := content_hash(state)) != expected:
        raise CheckpointError(
            "what was written is not what was read; nothing was kept", asked=expected, found=found
        )


def _check_destination(source: Path, destination: Path, overwrite: bool) -> None:
    where = str(destination)
    if destination.resolve() == source:
        raise InvalidRequest("a model cannot be converted in its place", asked=where)
    if not destination.exists():
        return
    if not destination.is_dir():
        raise InvalidRequest("there is a file of this name", asked=where)
    names = sorted(entry.name for entry in destination.iterdir())
    there = names[:8]
    if there and not overwrite:
        raise InvalidRequest(
            "something is there already",
            asked=where,
            found=", ".join(there),
            hint="Choose another name, or overwrite it (--force)",
        )
    if names and CONFIG_FILE not in names:
        raise InvalidRequest(
            "what is there is no model, and is not overwritten", asked=where, found=", ".join(there)
        )


def _check_room(directory: Path, kinds: Mapping[str, Kind]) -> None:
    nbytes = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds.values())
    free = shutil.disk_usage(directory).free
    if nbytes + _RESERVE_NBYTES > free:
        raise StorageFull(
            "there is no room on the disk for this model",
            asked=f"{nbytes} bytes",
            found=f"{free} bytes are free in {directory}",
        )


def _put(unfinished: Path, destination: Path) -> None:
    """Give a whole directory its name; what had it goes, unless that fails."""
    if not destination.exists():
        unfinished.rename(destination)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.old.", dir=destination.parent))
    try:
        destination.rename(aside / "model")
        try:
            unfinished.rename(destination)
        except BaseException:
            (aside / "model").rename(destination)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)

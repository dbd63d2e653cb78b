"""The files of a model directory: which they are, whether they changed, and what identifies them.

Torch is not needed here, so that the front process can tell models apart without it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from circuit_protocol.errors import CheckpointError

CONFIG_FILE: Final = "beeg_config.json"
#: In order of preference: safetensors cannot carry code and needs no unpickling.
WEIGHT_FILES: Final = ("final_model.safetensors", "final_model.pt")
#: Pretraining mean [width] of each node site, named as the site; a model may come without.
MEANS_FILE: Final = "means.safetensors"
_MAX_CONFIG_NBYTES: Final = 1 << 20


@dataclass(frozen=True)
class FileState:
    """What changes when a file changes."""

    path: Path
    nbytes: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class ModelFiles:
    """A model directory's configuration, weights and means as they were at one moment."""

    directory: Path
    config: FileState
    weights: FileState
    means: FileState | None = None

    @property
    def states(self) -> tuple[FileState, ...]:
        """Every file that an answer can depend on."""
        return (self.config, self.weights) + (() if self.means is None else (self.means,))

    @property
    def signature(self) -> str:
        """Changes when a file is replaced or rewritten; cheap, read from the file system."""
        text = "\n".join(f"{s.path} {s.nbytes} {s.mtime_ns} {s.inode}" for s in self.states)
        return hashlib.sha256(text.encode()).hexdigest()


def model_files(directory: Path) -> ModelFiles:
    """The model files in `directory` now.

    Raises `CheckpointError` when the directory, its configuration or its weights are missing.
    """
    directory = directory.expanduser().resolve()
    if not directory.is_dir():
        raise CheckpointError("not a model directory", asked=str(directory), found="no directory")
    config = _state(directory / CONFIG_FILE)
    weights = next((s for name in WEIGHT_FILES if (s := _state(directory / name))), None)
    if config is None or weights is None:
        missing = CONFIG_FILE if config is None else " or ".join(WEIGHT_FILES)
        there = sorted(entry.name for entry in directory.iterdir())[:8]
        raise CheckpointError(
            f"the model directory lacks {missing}",
            asked=str(directory),
            found=", ".join(there) or "an empty directory",
            hint="a model is beeg_config.json beside final_model.safetensors or final_model.pt",
        )
    return ModelFiles(directory, config, weights, _state(directory / MEANS_FILE))


def read_config(files: ModelFiles) -> dict[str, Any]:
    """The configuration mapping. Raises `CheckpointError` for what is no JSON object."""
    path = str(files.config.path)
    if files.config.nbytes > _MAX_CONFIG_NBYTES:
        raise CheckpointError(
            "the model configuration is too large",
            asked=path,
            found=f"{files.config.nbytes} bytes, the limit is {_MAX_CONFIG_NBYTES}",
        )
    try:
        mapping = json.loads(files.config.path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "the model configuration cannot be read",
            asked=path,
            found=f"{type(error).__name__}: {error}"[:300],
            hint="it should be one flat JSON object; was it written completely?",
        ) from error
    if not isinstance(mapping, dict):
        raise CheckpointError(
            "the model configuration is no JSON object", asked=path, found=type(mapping).__name__
        )
    return mapping


def model_hash(files: ModelFiles, weights_hash: str) -> str:
    """SHA-256 over the bytes of configuration and means, each after its length, and the hash of the
    weights' content: the same for every form that the weights may be stored in.

    The means belong to it because the answer to a mean ablation depends on them. Raises
    `CheckpointError` when a file cannot be read.
    """
    digest = hashlib.sha256(weights_hash.encode())
    for state in (files.config, files.means):
        if state is None:
            continue
        try:
            data = state.path.read_bytes()
        except OSError as error:
            raise CheckpointError(
                "a model file cannot be read", asked=str(state.path), found=str(error)
            ) from error
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _state(path: Path) -> FileState | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    if not path.is_file():
        return None
    return FileState(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)

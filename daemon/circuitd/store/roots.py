"""Artefact roots: where models are looked for, and which directory a model's name means.

A root is an artefact tree: `<root>/models/<name>/`, beside it tokenizers, circuits and curves. In
order: the roots asked for (settings, `CIRCUITD_DATA`), the user's data directory, the `data/` of a
source checkout, and the one installed with the package. The first root that has a name wins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from circuit_protocol.endpoints import data_dir
from circuit_protocol.errors import NotFound
from circuitd.store.model_files import CONFIG_FILE

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be loaded by name."""

    name: str
    directory: Path
    root: Path


def artefact_roots(asked: Iterable[str | Path] = ()) -> tuple[Path, ...]:
    """The existing roots in order of precedence, each once."""
    named = [part for part in os.environ.get("CIRCUITD_DATA", "").split(os.pathsep) if part]
    candidates = [
        *(Path(root) for root in asked),
        *(Path(root) for root in named),
        data_dir(),
        _PACKAGE.parents[1] / "data",  # a source checkout: daemon/circuitd is two levels down
        _PACKAGE / "data",  # installed with the wheel
    ]
    roots = [root.expanduser().resolve() for root in candidates]
    # Of two unrelated `data` directories only a tree with models is ours.
    return tuple(dict.fromkeys(root for root in roots if (root / "models").is_dir()))


def circuit_roots(
    writable: str | Path | None, asked: Iterable[str | Path] = ()
) -> tuple[Path, ...]:
    """Where circuits are: the tree they are written to (None: the user's), then all roots."""
    first = data_dir() if writable is None else Path(writable)
    return tuple(dict.fromkeys((first.expanduser().resolve(), *artefact_roots(asked))))


def list_models(roots: Sequence[Path]) -> tuple[ModelEntry, ...]:
    """Every model of the roots by name; one that an earlier root has too is left out."""
    found: dict[str, ModelEntry] = {}
    for root in roots:
        for directory in sorted((root / "models").iterdir()):
            if (directory / CONFIG_FILE).is_file():
                found.setdefault(directory.name, ModelEntry(directory.name, directory, root))
    return tuple(found.values())


def find_model(name_or_path: str, roots: Sequence[Path]) -> Path:
    """The directory of a model given by name, or by a path to it.

    A text with a path separator, or that starts with `~` or `.`, is a path. Raises `NotFound` with
    the nearest names.
    """
    looks_like_path = os.sep in name_or_path or name_or_path.startswith(("~", "."))
    if looks_like_path:
        directory = Path(name_or_path).expanduser()
        if directory.is_dir():
            return directory.resolve()
        raise NotFound(
            "no such model directory", asked=name_or_path, hint="give a directory or a model's name"
        )
    models = {entry.name: entry.directory for entry in list_models(roots)}
    if name_or_path in models:
        return models[name_or_path]
    raise NotFound.unknown("model", name_or_path, models)

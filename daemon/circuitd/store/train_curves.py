"""Training curves of an artefact tree: JSON lines beside the models, read as columns.

`<root>/train_curves/<name>/progress.json` belongs to `<root>/models/<name>/`; a model that is a
directory by itself may have the file inside.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from circuit_protocol.errors import CheckpointError, NotFound

FILE: Final = "progress.json"
#: A file of more than this is no log of a training run.
_MAX_NBYTES: Final = 256 << 20


@dataclass(frozen=True)
class TrainCurves:
    """Columns of equal length; None where a line has no such number."""

    path: Path
    n_lines: int
    steps: tuple[float, ...]
    columns: dict[str, tuple[float | None, ...]]
    notes: tuple[str, ...]


def curves_file(model_directory: Path) -> Path:
    """Where a model's curves are. Raises NotFound."""
    name = model_directory.name
    beside = model_directory.parent.parent / "train_curves" / name / FILE
    for path in (beside, model_directory / FILE):
        if path.is_file():
            return path
    raise NotFound(
        "nothing was written down of this model's training",
        asked=name,
        hint=f"It would be in train_curves/{name}/{FILE} beside models/, or in the model's folder",
    )


def read_curves(path: Path, metrics: Sequence[str], n_points: int) -> TrainCurves:
    """The numbers of a file, thinned evenly to `n_points` lines, both ends among them.

    `metrics` are patterns; none means all. What is no number is left out; a line that is no JSON
    object is counted in a note. Raises CheckpointError for a file beyond all bounds, NotFound for a
    pattern that no metric matches.
    """
    nbytes = path.stat().st_size
    if nbytes > _MAX_NBYTES:
        raise CheckpointError(
            "too large for training curves", asked=str(path), found=f"{nbytes:,} bytes"
        )
    lines: list[dict[str, Any]] = []
    n_lines = n_broken = 0
    for raw in path.read_bytes().splitlines():
        if not raw.strip():
            continue
        n_lines += 1
        try:
            lines.append(msgspec.json.decode(raw, type=dict[str, Any]))
        except msgspec.DecodeError:
            n_broken += 1
    lines = [lines[i] for i in _evenly(len(lines), n_points)]
    names = dict.fromkeys(
        name for line in lines for name, value in line.items() if _number(value) is not None
    )
    names.pop("step", None)
    for pattern in metrics:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise NotFound.unknown("metric", pattern, names)
    chosen = [
        name for name in names if not metrics or any(fnmatch.fnmatchcase(name, m) for m in metrics)
    ]
    steps = [_number(line.get("step")) for line in lines]
    return TrainCurves(
        path=path,
        n_lines=n_lines,
        steps=tuple(float(i) if step is None else step for i, step in enumerate(steps)),
        columns={name: tuple(_number(line.get(name)) for line in lines) for name in chosen},
        notes=(f"{n_broken} of {n_lines} lines are no JSON objects",) if n_broken else (),
    )


def _evenly(n: int, at_most: int) -> list[int]:
    if n <= at_most:
        return list(range(n))
    return [round(i * (n - 1) / (at_most - 1)) for i in range(at_most)]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None

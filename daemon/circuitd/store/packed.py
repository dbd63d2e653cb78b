"""Packed models: a sparse matrix on disk is its nonzeros and where they stand, nothing more.

A matrix `<name>` is stored in compressed sparse rows as three tensors: `<name>.csr_values` (F32,
the entries row by row), `<name>.csr_columns` (the column of each; U16 where that suffices, else
I32) and `<name>.csr_row_starts` (I32, rows + 1 offsets). Other tensors are stored as they are. The
metadata say `{"format": "circuitd-packed-1", "shapes": <JSON: name -> [rows, columns]>}`.
Packing and unpacking return the same bits: an entry counts as zero only if all its bits are zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from circuit_protocol.errors import CheckpointError

FORMAT = "circuitd-packed-1"
VALUES, COLUMNS, ROW_STARTS = ".csr_values", ".csr_columns", ".csr_row_starts"
MAX_NBYTES = 64 << 30
"""An unpacked model larger than this is refused before anything is allocated."""

Array = NDArray[np.generic]
Float32 = NDArray[np.float32]


def pack(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors and the metadata to store for the state dict `tensors`.

    A float32 matrix is packed where that makes it smaller; every other tensor is kept.
    Raises `ValueError` for a name that ends like a part of a packed matrix.
    """
    stored: dict[str, Array] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        if name.endswith((VALUES, COLUMNS, ROW_STARTS)):
            raise ValueError(f"a tensor cannot be packed under the name {name!r}")
        parts = _rows_of(tensor) if tensor.ndim == 2 and tensor.dtype == np.float32 else None
        if parts is None or sum(part.nbytes for part in parts) >= tensor.nbytes:
            stored[name] = np.ascontiguousarray(tensor)
            continue
        shapes[name] = list(tensor.shape)
        for suffix, part in zip((VALUES, COLUMNS, ROW_STARTS), parts, strict=True):
            stored[name + suffix] = part
    return stored, {"format": FORMAT, "shapes": json.dumps(shapes)}


def is_packed(metadata: Mapping[str, str] | None) -> bool:
    """Whether a safetensors file with these metadata holds a packed model (of any version)."""
    return bool(metadata) and metadata.get("format", "").startswith("circuitd-packed-")


def unpack(stored: Mapping[str, Array], metadata: Mapping[str, str]) -> dict[str, Array]:
    """The state dict that was packed into `stored`.

    Raises `CheckpointError`, before allocating, if a part is missing, unexpected or inconsistent,
    and if the matrices together would take more than `MAX_NBYTES`.
    """
    shapes = _shapes_of(metadata)
    nbytes = 4 * sum(rows * columns for rows, columns in shapes.values())
    if nbytes > MAX_NBYTES:
        raise CheckpointError(
            "the packed model is too large", asked=f"{nbytes} bytes", found=f"limit {MAX_NBYTES}"
        )
    parts = {n + suffix for n in shapes for suffix in (VALUES, COLUMNS, ROW_STARTS)}
    if missing := sorted(parts - set(stored)):
        raise CheckpointError("the packed model lacks tensors", found=", ".join(missing))
    for name, shape in shapes.items():
        if name in stored:
            raise CheckpointError("a matrix is stored twice, packed and plain", found=name)
        _check(name, shape, stored)
    for name in stored:
        if name not in parts and name.endswith((VALUES, COLUMNS, ROW_STARTS)):
            raise CheckpointError("part of a packed matrix without a shape", found=name)
    tensors = {name: tensor for name, tensor in stored.items() if name not in parts}
    for name, shape in shapes.items():
        tensors[name] = _matrix(name, shape, stored)
    return tensors


def _rows_of(matrix: Array) -> tuple[Array, Array, Array] | None:
    n_rows, n_columns = matrix.shape
    matrix = np.ascontiguousarray(matrix)
    # By bits, not by value: -0.0 == 0.0, yet it must come back as -0.0.
    rows, columns = np.nonzero(matrix.view(np.uint32))
    if len(rows) > np.iinfo(np.int32).max or n_columns > np.iinfo(np.int32).max:
        return None
    row_starts = np.zeros(n_rows + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=row_starts[1:])
    index = np.uint16 if n_columns <= 1 << 16 else np.int32
    return matrix[rows, columns], columns.astype(index), row_starts


def _shapes_of(metadata: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            "unknown format of a packed model", asked=FORMAT, found=str(metadata.get("format"))
        )
    try:
        shapes = json.loads(metadata["shapes"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError("the packed model's shapes are unreadable") from error
    if not isinstance(shapes, dict):
        raise CheckpointError("the packed model's shapes are no JSON object")
    checked: dict[str, tuple[int, int]] = {}
    for name, shape in shapes.items():
        if not (
            isinstance(shape, list)
            and len(shape) == 2
            and all(type(size) is int and 0 <= size <= np.iinfo(np.int32).max for size in shape)
        ):
            raise CheckpointError("not the shape of a matrix", asked=name, found=str(shape)[:80])
        checked[name] = (shape[0], shape[1])
    return checked


def _check(name: str, shape: tuple[int, int], stored: Mapping[str, Array]) -> None:
    """Raise `CheckpointError` unless the three parts describe a matrix of `shape`."""
    values, columns, row_starts = (stored[name + s] for s in (VALUES, COLUMNS, ROW_STARTS))

    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"packed matrix {name}: {problem}", asked=f"shape {list(shape)}")

    if not (
        values.dtype == np.float32
        and columns.dtype in (np.uint16, np.int32)
        and row_starts.dtype == np.int32
    ):
        raise refuse(f"dtypes {values.dtype}, {columns.dtype}, {row_starts.dtype}")
    if not (values.ndim == columns.ndim == row_starts.ndim == 1) or len(values) != len(columns):
        raise refuse(f"parts of shapes {values.shape}, {columns.shape}, {row_starts.shape}")
    if len(row_starts) != shape[0] + 1:
        raise refuse(f"{len(row_starts)} row starts")
    lengths = np.diff(row_starts.astype(np.int64))
    if row_starts[0] != 0 or row_starts[-1] != len(values) or np.any(lengths < 0):
        raise refuse("row starts do not rise from 0 to the number of values")
    if len(values) > math.prod(shape):
        raise refuse(f"{len(values)} values")
    if len(columns):
        rows = np.repeat(np.arange(shape[0]), lengths)
        flat = rows * shape[1] + columns.astype(np.int64)
        if int(columns.min()) < 0 or int(columns.max()) >= shape[1]:
            raise refuse("a column outside the matrix")
        if np.any(np.diff(flat) <= 0):
            raise refuse("columns of a row do not rise")


def _matrix(name: str, shape: tuple[int, int], stored: Mapping[str, Array]) -> Float32:
    matrix = np.zeros(shape, np.float32)
    lengths = np.diff(stored[name + ROW_STARTS])
    rows = np.repeat(np.arange(shape[0]), lengths)
    matrix[rows, stored[name + COLUMNS].astype(np.int64)] = stored[name + VALUES]
    return matrix

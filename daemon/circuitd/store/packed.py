"""Packed models: a sparse matrix on disk is its nonzeros and where they stand, nothing more.

A matrix `<name>` is stored in compressed sparse rows as three tensors: `<name>.csr_values` (F32,
the entries row by row), `<name>.csr_columns` (the column of each; U16 where that suffices, else
I32) and `<name>.csr_row_starts` (I32, rows + 1 offsets). Other tensors are stored as they are. The
metadata say `{"format": "circuitd-packed-1", "shapes": <JSON: name -> [rows, columns]>, "sha256":
<checksum>}`; files that training wrote before there was a checksum have none.

Packing and unpacking return the same bits: an entry counts as zero only if all its bits are zero.
The checksum covers what a packed file says, not how its bytes are laid out, so it is the same for
every form of the same tensors, and identifies them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_protocol.errors import CheckpointError
from circuitd.engine.nonzeros import Nonzeros
from circuitd.store.safetensors_file import bytes_of

FORMAT: Final = "circuitd-packed-1"
VALUES, COLUMNS, ROW_STARTS = ".csr_values", ".csr_columns", ".csr_row_starts"
#: An unpacked model larger than this is refused before anything is allocated.
MAX_NBYTES: Final = 64 << 30
_MAX_INDEX: Final = np.iinfo(np.int32).max
_N_HASHING_THREADS: Final = 4
#: Hashing less than this takes no longer than handing it to a thread.
_LARGE_NBYTES: Final = 1 << 18

Array = NDArray[np.generic]


def compress(tensor: Tensor) -> Tensor | Nonzeros:
    """The nonzeros of a float32 matrix where they take less room; every other tensor itself."""
    if tensor.ndim != 2 or tensor.dtype != torch.float32 or max(tensor.shape) > _MAX_INDEX:
        return tensor
    matrix = tensor.detach().cpu().numpy()
    n_entries = int(np.count_nonzero(matrix.view(np.uint32)))
    n_rows, n_columns = matrix.shape
    index_nbytes = 2 if n_columns <= 1 << 16 else 4
    nbytes = n_entries * (4 + index_nbytes) + 4 * (n_rows + 1)
    return tensor if nbytes >= matrix.nbytes or n_entries > _MAX_INDEX else Nonzeros.of(matrix)


def parts_of(state: Mapping[str, Tensor | Nonzeros]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata to store for a state dict whose tensors were compressed.

    Raises `ValueError` for a name that ends like a part of a packed matrix.
    """
    parts: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for name, value in state.items():
        if name.endswith((VALUES, COLUMNS, ROW_STARTS)):
            raise ValueError(f"a tensor cannot be packed under the name {name!r}")
        if not isinstance(value, Nonzeros):
            parts[name] = value.detach().contiguous()
            continue
        shapes[name] = value.shape
        for suffix, part in (
            (VALUES, value.values), (COLUMNS, value.columns), (ROW_STARTS, value.starts)
        ):  # fmt: skip
            parts[name + suffix] = torch.from_numpy(np.ascontiguousarray(part))
    metadata = {"format": FORMAT, "shapes": json.dumps(shapes), "sha256": _checksum(parts, shapes)}
    return parts, metadata


def state_of(
    parts: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, Tensor | Nonzeros]:
    """The state dict that was packed into `parts`, whose memory it shares; nothing gets dense.

    Raises `CheckpointError` if a part is missing, unexpected or inconsistent, if the parts are not
    those of the checksum, and if the matrices would take more than `MAX_NBYTES` when dense.
    """
    shapes = _shapes_of(metadata)
    nbytes = 4 * sum(rows * columns for rows, columns in shapes.values())
    if nbytes > MAX_NBYTES:
        raise CheckpointError(
            "the packed model is too large",
            found=f"{nbytes} bytes dense, the limit is {MAX_NBYTES}",
        )
    known = {n + suffix for n in shapes for suffix in (VALUES, COLUMNS, ROW_STARTS)}
    if missing := sorted(known - set(parts)):
        raise CheckpointError("the packed model lacks tensors", found=", ".join(missing))
    with ThreadPoolExecutor(1) as aside:  # most of the time goes into the checksum
        checksum = aside.submit(_checksum, parts, shapes) if "sha256" in metadata else None
        refused: Exception | None = None
        state: dict[str, Tensor | Nonzeros] = {}
        try:
            state = _matrices_of(parts, shapes, known)
        except Exception as error:  # damage may look like anything: the checksum comes first
            refused = error
    if checksum is not None and (found := checksum.result()) != metadata["sha256"]:
        raise CheckpointError(
            "the packed model is damaged: it has another checksum",
            found=f"sha256 {found}, written as {metadata['sha256'][:80]}",
            hint="fetch or pack it again",
        )
    if refused is not None:
        raise refused
    return state


def _matrices_of(
    parts: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], known: set[str]
) -> dict[str, Tensor | Nonzeros]:
    """The tensors as they are, and the matrices whose parts are `known`."""
    for name in shapes:
        if name in parts:
            raise CheckpointError("a matrix is stored twice, packed and plain", found=name)
    for name in parts:
        if name not in known and name.endswith((VALUES, COLUMNS, ROW_STARTS)):
            raise CheckpointError("part of a packed matrix without a shape", found=name)
    state: dict[str, Tensor | Nonzeros] = {n: t for n, t in parts.items() if n not in known}
    for name, shape in shapes.items():
        state[name] = _nonzeros(name, shape, parts)
    return state


def content_hash(state: Mapping[str, Tensor | Nonzeros]) -> str:
    """SHA-256 of names, shapes, dtypes and bits of compressed tensors: the checksum of their packed
    file, whatever file they came from.
    """
    return parts_of(state)[1]["sha256"]


def is_packed(metadata: Mapping[str, str] | None) -> bool:
    """Whether a safetensors file with these metadata holds a packed model (of any version)."""
    return bool(metadata) and metadata.get("format", "").startswith("circuitd-packed-")


def pack(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata to store for a state dict of arrays."""
    state = {n: compress(torch.from_numpy(np.ascontiguousarray(t))) for n, t in tensors.items()}
    parts, metadata = parts_of(state)
    return {name: part.numpy() for name, part in parts.items()}, metadata


def unpack(stored: Mapping[str, Array], metadata: Mapping[str, str]) -> dict[str, Array]:
    """The arrays that were packed into `stored`. Raises as `state_of` does."""
    state = state_of({name: torch.from_numpy(part) for name, part in stored.items()}, metadata)
    return {n: v.dense() if isinstance(v, Nonzeros) else v.numpy() for n, v in state.items()}


def _checksum(parts: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]]) -> str:
    def digest(name: str) -> str:
        part = parts[name].detach().cpu().contiguous()
        return hashlib.sha256(bytes_of(part).data).hexdigest()

    large = {name for name, part in parts.items() if part.nbytes >= _LARGE_NBYTES}
    with ThreadPoolExecutor(_N_HASHING_THREADS) as pool:  # hashing lets other threads run
        waiting = {name: pool.submit(digest, name) for name in large}
        digests = {name: digest(name) for name in parts if name not in large}
    digests |= {name: found.result() for name, found in waiting.items()}
    said = [
        [name, str(parts[name].dtype), list(parts[name].shape), digests[name]]
        for name in sorted(parts)
    ]
    matrices = [[name, list(shapes[name])] for name in sorted(shapes)]
    return hashlib.sha256(json.dumps([said, matrices]).encode()).hexdigest()


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
            and all(type(size) is int and 0 <= size <= _MAX_INDEX for size in shape)
        ):
            raise CheckpointError("not the shape of a matrix", asked=name, found=str(shape)[:80])
        checked[name] = (shape[0], shape[1])
    return checked


def _nonzeros(name: str, shape: tuple[int, int], parts: Mapping[str, Tensor]) -> Nonzeros:
    """The matrix of three parts. Raises `CheckpointError` unless they describe one of `shape`."""
    values, columns, starts = (parts[name + s].numpy() for s in (VALUES, COLUMNS, ROW_STARTS))

    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"packed matrix {name}: {problem}", asked=f"shape {list(shape)}")

    if not (
        values.dtype == np.float32
        and columns.dtype in (np.uint16, np.int32)
        and starts.dtype == np.int32
    ):
        raise refuse(f"dtypes {values.dtype}, {columns.dtype}, {starts.dtype}")
    if not (values.ndim == columns.ndim == starts.ndim == 1) or len(values) != len(columns):
        raise refuse(f"parts of shapes {values.shape}, {columns.shape}, {starts.shape}")
    if len(starts) != shape[0] + 1:
        raise refuse(f"{len(starts)} row starts")
    lengths = np.diff(starts.astype(np.int64))
    if starts[0] != 0 or starts[-1] != len(values) or np.any(lengths < 0):
        raise refuse("row starts do not rise from 0 to the number of values")
    if len(values) > math.prod(shape):
        raise refuse(f"{len(values)} values")
    if len(columns):
        if int(columns.min()) < 0 or int(columns.max()) >= shape[1]:
            raise refuse("a column outside the matrix")
        rises = columns[1:] > columns[:-1]
        firsts = starts[(starts > 0) & (starts < len(columns))]
        rises[firsts - 1] = True  # from one row to the next
        if not rises.all():
            raise refuse("columns of a row do not rise")
    return Nonzeros(shape, starts, columns, values)

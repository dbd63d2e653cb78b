"""`tensor.reduce`: a view or a summary of a held tensor, computed block by block where it lies."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, TypeAlias

import numpy as np
import torch

from circuit_protocol.errors import BadShape, InvalidRequest
from circuit_protocol.limits import FLOATS, check_tensor
from circuit_protocol.replies import Reduced
from circuit_protocol.requests import Reduce
from circuit_protocol.tensors import NUMPY_DTYPES, DType
from circuitd.worker import memory
from circuitd.worker.blocks import axis_blocks, flat_blocks, numbers
from circuitd.worker.context import Context
from circuitd.worker.output import Parcel
from circuitd.worker.quantiles import STATISTIC_NBYTES, quantiles
from circuitd.worker.registry import Steps

_CPU: Final = torch.device("cpu")
#: Numbers that one step of a projection reads.
_PROJECT_ENTRIES: Final = 1 << 20
#: Steps of a reduction; its result is what the reply says.
_Reduction: TypeAlias = Generator[None, None, Reduced]


def run(request: Reduce, context: Context) -> Steps:
    """Reduce a held tensor. Sums run in float64; results are F32, slices keep their dtype."""
    segment = context.segment(request.handle)
    array = context.host.segments.read(segment)
    with context.parcel() as parcel:
        reduction = _HOW[request.how](request, context, array, segment.dtype, parcel)
        done = 0
        try:
            while True:
                next(reduction)
                done += 1
                yield context.progress("reduce", done, unit="blocks")
        except StopIteration as stop:
            yield parcel.seal(stop.value)


def _slice(
    request: Reduce, context: Context, array: np.ndarray, dtype: DType, parcel: Parcel
) -> _Reduction:
    if len(request.slices) > array.ndim:
        raise BadShape(
            "there are more slices than dimensions",
            asked=f"{len(request.slices)} slices",
            found=f"shape {list(array.shape)}",
        )
    if any(step == 0 for _, _, step in request.slices):
        raise InvalidRequest("a slice has step 0")
    view = array[tuple(slice(*one) for one in request.slices)]
    yield
    return Reduced(
        id=request.id, value=parcel.deliver_array(view, dtype, f"slice of {request.handle}")
    )


def _top_k(
    request: Reduce, context: Context, array: np.ndarray, dtype: DType, parcel: Parcel
) -> _Reduction:
    """The largest magnitudes, largest first, of equal ones the earliest; NaN never counts."""
    values, indices = np.empty(0, np.float64), np.empty(0, np.int64)
    for start, block in flat_blocks(array, dtype):
        magnitudes = np.abs(block.astype(np.float64))
        magnitudes[np.isnan(magnitudes)] = -1.0
        if magnitudes.size > request.k:
            # Everything at least as large as the k-th, so that ties are settled below, by place.
            kth = np.partition(magnitudes, magnitudes.size - request.k)[-request.k]
            at = np.flatnonzero(magnitudes >= kth)
            if at.size > 2 * request.k:  # a sea of equal values: the first of them will do
                above = np.flatnonzero(magnitudes > kth)
                at = np.union1d(above, np.flatnonzero(magnitudes == kth)[: request.k])
        else:
            at = np.arange(magnitudes.size)
        at = at[magnitudes[at] >= 0]
        values = np.concatenate([values, block[at].astype(np.float64)])
        indices = np.concatenate([indices, at + start])
        best = np.argsort(-np.abs(values), kind="stable")[: request.k]
        values, indices = values[best], indices[best]
        yield
    where = np.stack(np.unravel_index(indices, array.shape), axis=-1).astype(np.int64)
    return Reduced(
        id=request.id, value=parcel.put(values.astype(np.float32)), indices=parcel.put(where)
    )


def _over_axis(
    request: Reduce, context: Context, array: np.ndarray, dtype: DType, parcel: Parcel
) -> _Reduction:
    """Euclidean norm, or mean, along one axis."""
    axis = request.axis + array.ndim if request.axis < 0 else request.axis
    if not 0 <= axis < array.ndim:
        raise BadShape(
            "the tensor has no such axis",
            asked=str(request.axis),
            found=f"shape {list(array.shape)}",
        )
    is_norm = request.how == "norm"
    if not is_norm and array.shape[axis] == 0:
        raise BadShape("the mean over an axis of length 0 is no number", found=str(array.shape))
    shape = (*array.shape[:axis], *array.shape[axis + 1 :])
    inner = int(np.prod(array.shape[axis + 1 :], dtype=np.int64))
    total = np.zeros((int(np.prod(array.shape[:axis], dtype=np.int64)), inner))
    for rows, block in axis_blocks(array, dtype, axis):
        wide = block.astype(np.float64)
        total[rows] += np.square(wide, out=wide).sum(1) if is_norm else wide.sum(1)
        yield
    result = np.sqrt(total) if is_norm else total / array.shape[axis]
    return _float32(request, result.reshape(shape), parcel)


def _quantiles(
    request: Reduce, context: Context, array: np.ndarray, dtype: DType, parcel: Parcel
) -> _Reduction:
    kind = np.dtype(np.float32) if dtype == "BF16" else NUMPY_DTYPES[dtype]
    if dtype == "BOOL":
        array, kind = array.view(np.uint8), np.dtype(np.uint8)
    n_statistics = min(2 * len(set(request.quantiles)), array.size)
    what = f"{len(request.quantiles)} quantiles"
    memory.require(_CPU, STATISTIC_NBYTES * n_statistics, what)
    found = yield from quantiles(
        lambda: (block for _, block in flat_blocks(array, dtype)), kind, request.quantiles
    )
    return _float32(request, found, parcel)


def _project(
    request: Reduce, context: Context, array: np.ndarray, dtype: DType, parcel: Parcel
) -> _Reduction:
    """Inner products of the last axis with each direction: [..., n]."""
    if request.directions is None:
        raise InvalidRequest("project needs `directions`", hint="Send them as [n, width]")
    if array.ndim == 0:
        raise BadShape("a single number has no axis to project")
    width = array.shape[-1]
    check_tensor(request.directions, "directions", shape=(None, width), dtypes=FLOATS)
    directions = numbers(context.array(request.directions), request.directions.dtype)
    directions = directions.astype(np.float64)
    rows = array.reshape(-1, width) if array.size else array.reshape(0, width)
    result = np.empty((rows.shape[0], directions.shape[0]), np.float32)
    step = max(1, _PROJECT_ENTRIES // max(1, width))
    for start in range(0, rows.shape[0], step):
        block = numbers(rows[start : start + step], dtype).astype(np.float64)
        result[start : start + step] = block @ directions.T
        yield
    return _float32(request, result.reshape(*array.shape[:-1], directions.shape[0]), parcel)


def _float32(request: Reduce, result: np.ndarray, parcel: Parcel) -> Reduced:
    narrow = np.asarray(result, dtype=np.float32)
    name = f"{request.how} of {request.handle}"
    return Reduced(id=request.id, value=parcel.deliver_array(narrow, "F32", name))


_HOW: Final[dict[str, Callable[[Reduce, Context, np.ndarray, DType, Parcel], _Reduction]]] = {
    "slice": _slice,
    "top_k": _top_k,
    "norm": _over_axis,
    "mean": _over_axis,
    "quantiles": _quantiles,
    "project": _project,
}

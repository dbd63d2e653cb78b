"""Write a safetensors file tensor by tensor, so that a model larger than memory can be written.

The format: eight bytes with the header's length, the header (JSON: dtype, shape and span of each
tensor, and metadata), then the bytes of the tensors. Wide types come first, so that every tensor of
a mapped file is aligned.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_DTYPE_NAMES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_ALIGNMENT: Final = 8

#: Dtype and shape of a tensor.
Kind = tuple[torch.dtype, tuple[int, ...]]


def write_safetensors(
    path: Path,
    kinds: Mapping[str, Kind],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Write `path`, asking `tensor` for one after another; yields the name of each that is written.

    Raises ValueError for a dtype that the format does not have, or a tensor of another kind.
    """
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    names = sorted(kinds, key=lambda name: (-kinds[name][0].itemsize, name))
    end = 0
    for name in names:
        dtype, shape = kinds[name]
        if dtype not in _DTYPE_NAMES:
            raise ValueError(f"safetensors cannot hold {dtype}, which {name} is")
        start, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _DTYPE_NAMES[dtype], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            values = tensor(name).detach().cpu().contiguous()
            if (values.dtype, tuple(values.shape)) != kinds[name]:
                raise ValueError(f"{name} is {values.dtype} {list(values.shape)}, not as announced")
            file.write(bytes_of(values).data)
            yield name
        file.flush()
        os.fsync(file.fileno())


def bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """The bytes of a contiguous tensor on the CPU, as the file has them."""
    if not tensor.numel():  # which torch cannot view as another type
        return np.empty(0, np.uint8)
    return tensor.reshape(-1).view(torch.uint8).numpy()


def kind_of(tensor: Tensor) -> Kind:
    """Dtype and shape of a tensor."""
    return tensor.dtype, tuple(tensor.shape)

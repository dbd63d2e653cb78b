"""A weight matrix held as its nonzeros; dense only once somebody asks for that.

At 1/1024 density the nonzeros of a matrix are some 700 times smaller than the matrix, and all that
the sparse kernels read. An entry counts as zero only if all its bits are zero, so that -0.0 stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine import device as engine_device

Array = np.ndarray[Any, Any]

#: Less than this is not worth asking the system how much memory is free.
_SMALL_NBYTES: Final = 16 << 20


@dataclass(frozen=True, eq=False)
class Nonzeros:
    """Compressed rows of a float32 matrix `shape`: the columns (rising) and values of row r are
    those from `starts[r]` to `starts[r + 1]`. The arrays may be views of a mapped file.
    """

    shape: tuple[int, int]
    starts: Array  # [rows + 1] int32
    columns: Array  # [n] uint16 where that suffices, else int32
    values: Array  # [n] float32

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    @property
    def rows(self) -> Array:
        """The row of each entry [n], int64."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))

    @classmethod
    def of(cls, matrix: Array) -> Nonzeros:
        """The nonzeros of a float32 `matrix` [rows, columns]."""
        n_rows, n_columns = matrix.shape
        bits = np.ascontiguousarray(matrix).view(np.uint32).reshape(-1)
        flat = np.flatnonzero(bits != 0)
        starts = np.searchsorted(flat, n_columns * np.arange(n_rows + 1)).astype(np.int32)
        index = np.uint16 if n_columns <= 1 << 16 else np.int32
        columns = (flat % max(n_columns, 1)).astype(index)
        return cls((n_rows, n_columns), starts, columns, bits[flat].view(np.float32))

    def transposed(self) -> Nonzeros:
        """The same entries by column."""
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=self.shape[1])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        index = np.uint16 if self.shape[0] <= 1 << 16 else np.int32
        rows = self.rows.astype(index)[order]
        return Nonzeros((self.shape[1], self.shape[0]), starts, rows, self.values[order])

    def dense(self) -> Array:
        """The matrix, float32."""
        matrix = np.zeros(self.shape, np.float32)
        matrix[self.rows, self.columns] = self.values
        return matrix

    def block(self, rows: Array, columns: Array) -> Array:
        """The entries at `rows` [r] and `columns` [c], which may not repeat: float32 [r, c]."""
        at_column = np.full(self.shape[1], -1, np.int64)
        at_column[columns] = np.arange(len(columns))
        found = np.zeros((len(rows), len(columns)), np.float32)
        for i, row in enumerate(rows):
            span = slice(self.starts[row], self.starts[row + 1])
            at = at_column[self.columns[span]]
            found[i, at[at >= 0]] = self.values[span][at >= 0]
        return found


class Product(Protocol):
    """A way to multiply by the nonzeros of a matrix. `nbytes`: what it holds beside them."""

    @property
    def nbytes(self) -> int:
        """Bytes that nobody else counts."""
        ...

    def is_faster(self, n_tokens: int) -> bool:
        """Whether the dense product of so many tokens would take longer."""
        ...

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias for each `x` [..., n_in]: [..., n_out]."""
        ...


class WeightMatrix:
    """One linear weight [n_out, n_in], held as what it was read as until dense is asked for.

    `product` multiplies by the nonzeros, where that is faster.
    """

    def __init__(
        self,
        held: Tensor | Nonzeros,
        dtype: torch.dtype,
        device: torch.device,
        product: Product | None = None,
    ) -> None:
        self.product = product
        self.shape: tuple[int, int] = (held.shape[0], held.shape[1])
        self._nonzeros = held if isinstance(held, Nonzeros) else None
        self._dense = held if isinstance(held, Tensor) else None
        self._dtype, self._device = dtype, device

    @classmethod
    def of(cls, dense: Tensor) -> WeightMatrix:
        """A matrix that is dense already."""
        return cls(dense, dense.dtype, dense.device)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias for each `x` [..., n_in]: [..., n_out]."""
        if self.product is not None and self.product.is_faster(x.shape[:-1].numel()):
            return self.product(x, bias)
        return F.linear(x, self.dense, bias)

    def multiplied_by(self, product: Product | None, *, keeps_dense: bool = False) -> WeightMatrix:
        """The same matrix, multiplied by its nonzeros where that is faster; or always densely.

        With a `product` the nonzeros then are all that is held of it, unless it `keeps_dense`.
        """
        held = self._dense if self._nonzeros is None else self._nonzeros
        assert held is not None  # one of the two is held
        if product is not None and not keeps_dense:
            held = self.nonzeros
        return WeightMatrix(held, self._dtype, self._device, product)

    @property
    def nbytes(self) -> int:
        """Bytes held now: more once it was asked for dense."""
        held = (self._nonzeros, self._dense, self.product)
        return sum(part.nbytes for part in held if part is not None)

    @property
    def dense_nbytes(self) -> int:
        """Bytes of the dense tensor, whether there is one or not."""
        return self.shape[0] * self.shape[1] * self._dtype.itemsize

    @property
    def is_dense(self) -> bool:
        """Whether the dense tensor is held."""
        return self._dense is not None

    @property
    def dense(self) -> Tensor:
        """The dense tensor, which from now on is kept. Raises MemoryError where it does not fit."""
        if self._dense is None:
            self._dense = self.to_dense()
        return self._dense

    def to_dense(self) -> Tensor:
        """The dense tensor: the one that is kept if there is one, else made for the caller alone.

        Raises MemoryError where there is no room for it.
        """
        if self._dense is not None:
            return self._dense
        assert self._nonzeros is not None  # one of the two is held
        if self.dense_nbytes > _SMALL_NBYTES:
            free = engine_device.memory(self._device).free_nbytes
            if self.dense_nbytes > free:
                raise MemoryError(
                    f"a dense weight takes {self.dense_nbytes} bytes, {free} are free"
                )
        # Tensors made under inference mode could not take part in a later gradient.
        with torch.inference_mode(False), torch.no_grad():
            return torch.from_numpy(self._nonzeros.dense()).to(self._device, self._dtype)

    @property
    def nonzeros(self) -> Nonzeros:
        """The entries in float32 on the CPU; found anew each time where only dense is held."""
        if self._nonzeros is not None:
            return self._nonzeros
        assert self._dense is not None  # one of the two is held
        return Nonzeros.of(self._dense.detach().float().cpu().numpy())

    def block(self, rows: Array, columns: Array) -> Array:
        """The entries at `rows` [r] and `columns` [c], which may not repeat: float32 [r, c]."""
        if self._nonzeros is not None:
            return self._nonzeros.block(rows, columns)
        assert self._dense is not None  # one of the two is held
        chosen = self._dense[torch.from_numpy(rows)][:, torch.from_numpy(columns)]
        return chosen.float().cpu().numpy()

    def entry(self, row: int, column: int) -> float:
        """One weight."""
        if self._nonzeros is not None:
            return float(self._nonzeros.block(np.array([row]), np.array([column]))[0, 0])
        assert self._dense is not None  # one of the two is held
        return float(self._dense[row, column])

    def entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The weights at `rows[i]`, `columns[i]`: [n]."""
        if self._dense is not None:
            return self._dense[rows, columns]
        found = [self.entry(*at) for at in zip(rows.tolist(), columns.tolist(), strict=True)]
        return torch.tensor(found, dtype=self._dtype, device=self._device)

    def count_nonzero(self) -> int:
        """How many entries differ from zero."""
        if self._nonzeros is not None:
            return int(np.count_nonzero(self._nonzeros.values))
        return int(torch.count_nonzero(self.dense))

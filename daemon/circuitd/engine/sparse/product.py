"""Products by nonzeros in the dense network's own layout, [tokens, channels], with a gradient.

A whole pass is fastest on tiles. This serves what tiles do not: passes that build a graph or cut
edges, and generation, where one token at a time is a product of a matrix and a vector. There the
dense product reads every entry of the matrix, this one the few that are not zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from circuitd.engine.sparse.jit import jit
from circuitd.engine.sparse.rows import Rows
from circuitd.engine.sparse.threads import Threads

Array = np.ndarray[Any, Any]

#: An entry read here, one by one, costs as much as so many entries of a dense matrix: those of a
#: product with many tokens, which stays in the cache, and those that one token has to wait for.
_DENSE_PER_NONZERO: Final = 40.0
_DENSE_PER_NONZERO_ALONE: Final = 4.0
#: From so many tokens on a dense product reads a matrix once for all of them.
_MANY_TOKENS: Final = 16
#: Entries of a dense matrix that one token reads in the time that a call takes in any case.
_CALL: Final = 1 << 19
#: Multiplications below which a second thread costs more than it saves.
_MIN_SHARED: Final = 1 << 15


class NonzeroProduct:
    """Multiplies by a matrix of `shape` [n_out, n_in], float32 on the CPU. Re-entrant."""

    def __init__(self, shape: tuple[int, int], rows: Rows, threads: Threads) -> None:
        self._rows, self._threads = rows, threads
        self._n_out, self._n_in = shape
        self._n_entries = max(1, self._n_out * self._n_in)
        self._density = len(rows.values) / self._n_entries
        # Rows come by length: as many entries for each thread, not as many rows.
        wanted = np.linspace(0, len(rows.values), threads.n + 1)[1:-1]
        cuts = [0, *np.searchsorted(rows.starts, wanted).tolist(), self._n_out]
        self._rows_alike = list(itertools.pairwise(cuts))

    @property
    def nbytes(self) -> int:
        """Nothing: the entries are those of the tiles, which count them."""
        return 0

    def is_faster(self, n_tokens: int) -> bool:
        """Whether the dense product of so many tokens would take longer."""
        many = min(1.0, n_tokens / _MANY_TOKENS)
        cost = _DENSE_PER_NONZERO_ALONE + many * (_DENSE_PER_NONZERO - _DENSE_PER_NONZERO_ALONE)
        return self._density * cost + _CALL / (self._n_entries * max(1, n_tokens)) < 1

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias for each `x` [..., n_in]: [..., n_out]."""
        product = _Product.apply(x, self)
        return product if bias is None else product + bias

    def forward(self, x: Array) -> Array:
        """W x of each row of `x` [n, n_in]: [n, n_out]."""
        out = np.empty((len(x), self._n_out), np.float32)
        # Few tokens are shared out by rows of the matrix, many by token.
        by_token = len(x) >= self._threads.n
        token_parts, row_parts = [(0, len(x))], [(0, self._n_out)]
        if by_token:
            token_parts = self._parts(len(x), len(x))
        elif self._is_shared(len(x)):
            row_parts = self._rows_alike
        parts = list(itertools.product(token_parts, row_parts))

        def some(number: int, _: int) -> None:
            tokens, rows = parts[number]
            _multiply(x, self._rows, *tokens, *rows, out)

        self._threads.share(some, len(parts))
        return out

    def backward(self, grad: Array) -> Array:
        """W^T g of each row of `grad` [n, n_out]: [n, n_in]."""
        out = np.zeros((len(grad), self._n_in), np.float32)
        parts = self._parts(len(grad), len(grad))

        def some(number: int, _: int) -> None:
            _multiply_transposed(grad, self._rows, *parts[number], out)

        self._threads.share(some, len(parts))
        return out

    def _parts(self, n: int, n_tokens: int) -> list[tuple[int, int]]:
        """0 .. n cut for the threads."""
        n_parts = self._threads.n if self._is_shared(n_tokens) else 1
        return list(itertools.pairwise(np.linspace(0, n, n_parts + 1).astype(int).tolist()))

    def _is_shared(self, n_tokens: int) -> bool:
        return len(self._rows.values) * n_tokens >= _MIN_SHARED


class _Product(torch.autograd.Function):
    """`NonzeroProduct` to autograd. The weights have no gradient: they are never learned here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: NonzeroProduct) -> Tensor:
        """W x."""
        ctx.product = product
        return _by_rows(product.forward, x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        """W^T g."""
        return _by_rows(ctx.product.backward, grad_outputs[0]), None


def _by_rows(multiply: Callable[[Array], Array], x: Tensor) -> Tensor:
    rows = x.detach().reshape(-1, x.shape[-1]).contiguous().numpy()
    return torch.from_numpy(multiply(rows)).view(*x.shape[:-1], -1)


@jit
def _multiply(
    x: Array,
    rows: Rows,
    first_token: int,
    last_token: int,
    first_row: int,
    last_row: int,
    out: Array,
) -> None:
    for token in range(first_token, last_token):
        source, to = x[token], out[token]
        for i in range(first_row, last_row):
            total = np.float32(0)
            for at in range(rows.starts[i], rows.starts[i + 1]):
                total += rows.values[at] * source[rows.columns[at]]
            to[rows.order[i]] = total


@jit
def _multiply_transposed(
    grad: Array, rows: Rows, first_token: int, last_token: int, out: Array
) -> None:
    for token in range(first_token, last_token):
        source, to = grad[token], out[token]
        for i in range(rows.order.shape[0]):
            here = source[rows.order[i]]
            if here != np.float32(0):  # most are, after AbsTopK
                for at in range(rows.starts[i], rows.starts[i + 1]):
                    to[rows.columns[at]] += rows.values[at] * here

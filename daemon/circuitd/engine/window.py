"""The window: which rows and positions one pass computes, and what a selection of them means.

A plain forward pass has one window over all positions; generation with a cache has one per step,
and a plan's absolute positions then fall into it or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from circuitd.engine.errors import EngineError
from circuitd.engine.interventions import Positions

Refusal = Callable[[str, str], EngineError]


@dataclass(frozen=True)
class Window:
    """Rows 0..n_rows and positions start..stop of a run, in which every value of a pass lives.

    `lengths` are the rows' numbers of real tokens when they differ. `limit` bounds the positions
    that a plan may name: those of the run, or in generation all that may still come.
    """

    n_rows: int
    start: int
    stop: int
    limit: int
    device: torch.device
    dtype: torch.dtype
    lengths: tuple[int, ...] | None = None
    #: Keys of earlier positions come from a cache; nothing may refer to a row's end.
    is_cached: bool = False
    #: A graph is built, so values made under inference mode must be copied.
    builds_graph: bool = False

    @property
    def n_positions(self) -> int:
        """Positions computed in this pass."""
        return self.stop - self.start

    def tensor(self, values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`values` on this window's device, in its dtype unless another is given."""
        moved = self._moved(values, dtype or self.dtype)
        return moved.clone() if self.builds_graph and moved.is_inference() else moved

    def index(self, values: list[int]) -> Tensor:
        """A list of indices as int64 on this window's device."""
        return self._moved(torch.tensor(values, dtype=torch.int64), torch.int64)

    def _moved(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        if self.device.type != "cuda" or values.device.type != "cpu":
            return values.to(self.device, dtype)
        # From pageable memory the host would wait until the device has done all its work so far.
        return values.to(dtype).pin_memory().to(self.device, non_blocking=True)

    def resolve(self, positions: Positions, refuse: Refusal) -> list[list[int]]:
        """Absolute positions, one list that holds for all rows or one list per row.

        Raises what `refuse(found, allowed)` makes for positions that do not exist, and for
        references to a row's end where that end is not known.
        """
        from_end = [p for p in positions if _counts_from_end(p)]
        if from_end and self.is_cached:
            raise refuse(
                f"positions {from_end} count from the end, which moves with every step",
                "absolute positions in generation",
            )
        if not from_end or self.lengths is None:
            return [self._resolve_row(positions, self.limit, refuse)]
        return [self._resolve_row(positions, length, refuse) for length in self.lengths]

    def _resolve_row(self, positions: Positions, length: int, refuse: Refusal) -> list[int]:
        found: list[int] = []
        for position in positions:
            if isinstance(position, slice):
                found.extend(range(*position.indices(length)))
            elif -length <= position < self.limit:
                found.append(position + length if position < 0 else position)
            else:
                raise refuse(f"position {position}", f"positions -{length}..{self.limit - 1}")
        return found

    def position_mask(self, positions: Positions, refuse: Refusal) -> Tensor:
        """True at the selected positions of this window: bool [1 or n_rows, n_positions]."""
        chosen = self.resolve(positions, refuse)
        mask = torch.zeros(len(chosen), self.n_positions, dtype=torch.bool)
        for row, row_positions in enumerate(chosen):
            for position in row_positions:
                if self.start <= position < self.stop:
                    mask[row, position - self.start] = True
        return mask.to(self.device)

    def real_mask(self) -> Tensor | None:
        """True at real tokens [n_rows, n_positions]; None when there is no padding."""
        if self.lengths is None:
            return None
        at = torch.arange(self.start, self.stop, device=self.device)
        return at < self.index(list(self.lengths))[:, None]


def _counts_from_end(position: int | slice) -> bool:
    if isinstance(position, slice):
        bounds = (position.start, position.stop)
        backwards = position.step is not None and position.step < 0
        return backwards or any(bound is not None and bound < 0 for bound in bounds)
    return position < 0

"""What a request wants recorded, as the engine takes it, and put together again over row slices.

A wire record may select many sites; each (record, site) pair is one `Wanted`. The engine reduces
per row or position; only the `top_k` over a whole activation is finished here, from the engine's
top-k of every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from circuit_protocol import requests as wire
from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import EngineError, PlanError
from circuitd.engine.plan import Record
from circuitd.engine.recording import recorded
from circuitd.engine.sites import Site, select, site_named
from circuitd.engine.weights import Weights
from circuitd.engine.window import Window
from circuitd.worker.prompts import Batch


@dataclass(frozen=True, eq=False)
class Wanted:
    """One site of one wire record. `record` is what the engine shall keep under `record.name`."""

    asked: wire.Record
    site: Site
    record: Record

    @property
    def whole(self) -> Record:
        """Keeping the site's whole activation instead, to be cut and reduced by `cut` later."""
        return Record(self.site.name, key=self.record.key)

    def nbytes(self, batch: Batch, itemsize: int) -> int:
        """What its result takes for a batch, if nothing is reduced."""
        if self.asked.reduce != "none":
            return 0
        n_positions = batch.n_positions
        at = n_positions if self.asked.positions is None else len(self.asked.positions)
        if self.site.kind == "pattern":
            return batch.n_rows * self.site.width * at * (n_positions + 1) * itemsize
        width = self.site.width if self.asked.channels is None else len(self.asked.channels)
        return batch.n_rows * at * width * itemsize


def wanted(config: GPTConfig, records: Sequence[wire.Record]) -> tuple[Wanted, ...]:
    """All sites that the records select, in the order of records and sites. Raises UnknownSite."""
    found: list[Wanted] = []
    for number, asked in enumerate(records):
        for name in select(config, asked.site):
            site = site_named(config, name)
            n_channels = site.width if asked.channels is None else len(asked.channels)
            record = Record(
                name,
                positions=asked.positions,
                channels=asked.channels,
                reduce=None if asked.reduce == "none" else asked.reduce,
                k=max(1, min(asked.top_k, n_channels)),
                key=f"{number}:{name}",
            )
            found.append(Wanted(asked, site, record))
    return tuple(found)


def window_of(weights: Weights, batch: Batch) -> Window:
    """The window of a plain pass over `batch`, for cutting what was recorded whole."""
    n_positions = batch.n_positions
    lengths = tuple(batch.lengths.tolist()) if batch.is_ragged else None
    return Window(batch.n_rows, 0, n_positions, n_positions, weights.device, weights.dtype, lengths)


def cut(
    record: Record, x: torch.Tensor, site: Site, window: Window
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The part of a site's whole activation (or gradient) `x` that `record` keeps, reduced alike.

    For top_k also the channels [B, P, k], as from the engine.
    """
    return recorded(record, x, site, window)


def positions_of(record: Record, window: Window) -> torch.Tensor:
    """The positions of `window` that `record` keeps: int64 [B, P], on the window's device."""

    def refuse(found: str, allowed: str) -> EngineError:
        return PlanError(f"record of {record.site}", found, allowed)

    if record.positions is None:
        kept = [list(range(window.start, window.stop))]
    else:
        kept = [
            [p for p in row if window.start <= p < window.stop]
            for row in window.resolve(record.positions, refuse)
        ]
    return torch.tensor(kept, device=window.device).expand(window.n_rows, -1)


def is_real(positions: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Which of `positions` [B, P] hold tokens and not padding, given the rows' lengths [B]."""
    return positions < lengths.to(positions.device)[:, None]


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of an activation: values [n], and row, position and channel of each [n, 3]."""

    values: torch.Tensor
    where: torch.Tensor

    def largest(self, k: int) -> Entries:
        """The `k` of largest magnitude, largest first; of equal ones the earliest."""
        order = torch.argsort(self.values.abs(), descending=True, stable=True)[:k]
        return Entries(self.values[order], self.where[order])


def entries(
    record: Record,
    values: torch.Tensor,
    channels: torch.Tensor,
    lengths: torch.Tensor,
    window: Window,
    first_row: int = 0,
) -> Entries:
    """The real entries among the engine's top-k of each position.

    `values` and `channels` are [B, P, k] of the rows from `first_row` on, `lengths` [B] theirs.
    """
    at = positions_of(record, window)
    rows = torch.arange(first_row, first_row + window.n_rows, device=window.device)
    places = (rows[:, None, None], at[:, :, None], channels)
    where = torch.stack([place.expand_as(channels) for place in places], dim=-1)
    real = is_real(at, lengths)[:, :, None].expand_as(channels)
    return Entries(values[real], where[real])


def join(pieces: Sequence[Entries]) -> Entries:
    """All of the entries."""
    return Entries(torch.cat([p.values for p in pieces]), torch.cat([p.where for p in pieces]))

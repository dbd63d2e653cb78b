"""What a request wants recorded, as the engine takes it, and put together again over row slices.

A wire record may select many sites; each (record, site) pair is one `Wanted`. The engine reduces
per row or position; only the `top_k` over a whole activation is finished here, from the engine's
top-k of every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def cut(record: Record, x: torch.Tensor, site: Site, window: Window) -> torch.Tensor:
    """The part of a whole activation (or gradient) `x` that `record` keeps, reduced alike."""
    return recorded(record, x, site, window)[0]


def positions_of(record: Record, window: Window) -> torch.Tensor:
    """The positions that `record` keeps: int64 [B, P], on the window's device."""

    def refuse(found: str, allowed: str) -> EngineError:
        return PlanError(f"record of {record.site}", found, allowed)

    if record.positions is None:
        return torch.arange(window.n_positions, device=window.device).expand(window.n_rows, -1)
    rows = window.resolve(record.positions, refuse)
    return torch.tensor(rows, device=window.device).expand(window.n_rows, -1)


def is_real(positions: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Which of `positions` [B, P] hold tokens and not padding."""
    return positions < batch.lengths.to(positions.device)[:, None]


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
    wanted_: Wanted,
    values: torch.Tensor,
    channels: torch.Tensor,
    batch: Batch,
    window: Window,
    first_row: int,
) -> Entries:
    """The real entries among the engine's top-k of each position.

    `values` and `channels` are [B, P, k] of the rows from `first_row` on.
    """
    at = positions_of(wanted_.record, window)
    rows = torch.arange(first_row, first_row + window.n_rows, device=window.device)[:, None]
    where = torch.stack(
        [
            rows[:, :, None].expand_as(channels),
            at[:, :, None].expand_as(channels),
            channels,
        ],
        dim=-1,
    )
    real = is_real(at, batch)[:, :, None].expand_as(channels)
    return Entries(values[real], where[real])


def join(pieces: Sequence[Entries]) -> Entries:
    """All of the entries."""
    return Entries(torch.cat([p.values for p in pieces]), torch.cat([p.where for p in pieces]))


def unreduced(record: Record) -> Record:
    """The same selection without the reduction."""
    return replace(record, reduce=None)

"""What changed between two plans: per channel, how much, which way, and where most."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from circuit_protocol.replies import Change
from circuit_protocol.session import SelectedNode


@dataclass(eq=False)
class _SiteChanges:
    """Sums over rows and positions of one site's differences, one entry per channel."""

    channels: torch.Tensor
    n: int
    total: torch.Tensor
    total_square: torch.Tensor
    largest: torch.Tensor
    row: torch.Tensor
    position: torch.Tensor


@dataclass(eq=False)
class Changes:
    """Differences of all recorded sites, summed up slice by slice of the batch's rows."""

    _sites: dict[str, _SiteChanges] = field(default_factory=dict)

    def add(
        self,
        site: str,
        difference: torch.Tensor,
        channels: torch.Tensor,
        rows: torch.Tensor,
        positions: torch.Tensor,
        real: torch.Tensor,
    ) -> None:
        """Count `difference` [B, P, C] in; only where `real` [B, P].

        `channels` [C] number the last axis, `rows` [B] and `positions` [B, P] the others.
        """
        found = difference.double()[real]  # [n, C]
        if found.shape[0] == 0:
            return
        at = found.abs().argmax(0)
        where = real.nonzero()[at]  # [C, 2]
        new = _SiteChanges(
            channels=channels,
            n=found.shape[0],
            total=found.sum(0),
            total_square=found.square().sum(0),
            largest=found.gather(0, at[None])[0],
            row=rows[where[:, 0]],
            position=positions[where[:, 0], where[:, 1]],
        )
        known = self._sites.get(site)
        self._sites[site] = new if known is None else _sum(known, new)

    def ranked(self, limit: int) -> tuple[Change, ...]:
        """The channels that changed most by root mean square, largest first; unchanged ones not."""
        found: list[tuple[float, Change]] = []
        for site, sums in self._sites.items():
            rms = (sums.total_square / sums.n).sqrt()
            best = rms.topk(min(limit, len(rms)))
            for size, i in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                if size == 0.0:
                    continue
                change = Change(
                    node=SelectedNode(site=site, channel=int(sums.channels[i])),
                    rms=size,
                    mean=float(sums.total[i] / sums.n),
                    largest=float(sums.largest[i]),
                    row=int(sums.row[i]),
                    position=int(sums.position[i]),
                )
                found.append((size, change))
        found.sort(key=lambda pair: -pair[0])  # stable: equal ones stay in forward order
        return tuple(change for _, change in found[:limit])


def _sum(a: _SiteChanges, b: _SiteChanges) -> _SiteChanges:
    is_larger = b.largest.abs() > a.largest.abs()
    return _SiteChanges(
        channels=a.channels,
        n=a.n + b.n,
        total=a.total + b.total,
        total_square=a.total_square + b.total_square,
        largest=torch.where(is_larger, b.largest, a.largest),
        row=torch.where(is_larger, b.row, a.row),
        position=torch.where(is_larger, b.position, a.position),
    )

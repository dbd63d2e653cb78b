"""Recording: cut a slice of an activation, or reduce it, on the device where it is."""

from __future__ import annotations

import torch
from torch import Tensor

from circuitd.engine.errors import PlanError
from circuitd.engine.plan import Record
from circuitd.engine.sites import Site
from circuitd.engine.window import Window

_OVER_POSITIONS = ("mean", "mean_abs", "max_abs")
_REDUCTIONS = (*_OVER_POSITIONS, "norm", "top_k")


def check_record(record: Record, site: Site, window: Window) -> None:
    """Raise `PlanError` when `record` cannot be taken at `site` in `window`."""

    def refuse(found: str, allowed: str) -> PlanError:
        return PlanError(f"record of {site.name}", found, f"allowed: {allowed}")

    if record.reduce is not None:
        if record.reduce not in _REDUCTIONS:
            raise refuse(f"reduce={record.reduce!r}", ", ".join(_REDUCTIONS))
        if site.kind == "pattern":
            raise refuse("a pattern is not reduced", "heads and positions")
        if window.is_cached and record.reduce in _OVER_POSITIONS:
            raise refuse(
                f"{record.reduce} is over all positions, which come one at a time in generation",
                "norm, top_k, or no reduction",
            )
    if record.channels == () or record.heads == ():
        raise refuse("no channel is selected", "at least one, or None for all")
    if record.channels is not None and record.heads is not None:
        raise refuse("both channels and heads", "one of them")
    if record.channels is not None:
        if site.kind == "pattern":
            raise refuse("a pattern has no channels", "heads and positions")
        if outside := [c for c in record.channels if not 0 <= c < site.width]:
            raise refuse(f"channel {outside}", f"channels 0..{site.width - 1}")
    if record.heads is not None:
        if not site.n_head:
            raise refuse("this site has no heads", "heads exist at k, q, v, y, pattern")
        if outside := [h for h in record.heads if not 0 <= h < site.n_head]:
            raise refuse(f"head {outside}", f"heads 0..{site.n_head - 1}")
    if record.reduce == "top_k":
        channels = _channels(record, site)
        n = site.width if channels is None else len(channels)
        if not 1 <= record.k <= n:
            raise refuse(f"k={record.k}", f"1..{n}")
    if record.positions is not None:
        chosen = window.resolve(record.positions, refuse)
        if len({len(row) for row in chosen}) > 1:
            raise refuse(
                "the slice has another length in each row", "positions that are as many in all rows"
            )
        if not window.is_cached and not chosen[0]:
            raise refuse("no position is selected", "at least one")


def recorded(record: Record, x: Tensor, site: Site, window: Window) -> tuple[Tensor, Tensor | None]:
    """The recorded part of `x`, and for top_k the channel indices [B, P, k]."""
    real = window.real_mask() if record.reduce in _OVER_POSITIONS else None
    if site.kind == "pattern":
        if record.heads is not None:
            x = x[:, list(record.heads)]
        if record.positions is not None:
            x = _at_positions(x.transpose(1, 2), record, window).transpose(1, 2)
        return x.contiguous(), None
    channels = _channels(record, site)
    if channels is not None:
        x = x[..., channels]
    if record.positions is not None:
        x = _at_positions(x, record, window)
        if real is not None:
            real = _at_positions(real, record, window)
    if record.reduce is None:
        return x.contiguous(), None
    if record.reduce == "norm":
        return torch.linalg.vector_norm(x, dim=-1), None
    if record.reduce == "top_k":
        at = x.abs().topk(record.k, dim=-1).indices
        named = at if channels is None else window.index(channels)[at]
        return x.gather(-1, at), named
    return _over_positions(record.reduce, x, real), None


def _channels(record: Record, site: Site) -> list[int] | None:
    if record.channels is not None:
        return list(record.channels)
    if record.heads is None or site.kind == "pattern":
        return None
    return [head * site.d_head + c for head in record.heads for c in range(site.d_head)]


def _at_positions(x: Tensor, record: Record, window: Window) -> Tensor:
    """Rows of axis 1 at the record's positions, as far as they fall into the window."""

    def refuse(found: str, allowed: str) -> PlanError:
        return PlanError(f"record of {record.site}", found, allowed)

    assert record.positions is not None
    chosen = window.resolve(record.positions, refuse)
    if len(chosen) == 1:
        within = [p - window.start for p in chosen[0] if window.start <= p < window.stop]
        return x[:, within]
    rows = window.index(list(range(window.n_rows)))[:, None]
    return x[rows, torch.tensor(chosen, device=window.device)]


def _over_positions(reduce: str, x: Tensor, real: Tensor | None) -> Tensor:
    if reduce != "mean":
        x = x.abs()
    if real is not None:
        x = torch.where(real[:, :, None], x, 0.0)
    if reduce == "max_abs":
        return x.amax(1)
    n_real = x.shape[1] if real is None else real.sum(1, keepdim=True).clamp(min=1)
    return x.sum(1) / n_real

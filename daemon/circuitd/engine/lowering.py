"""Lowering: an intervention becomes a function of the activation, checked against site and window.

Everything that can be wrong with an intervention is found here, before the network runs. The
functions are pure: they return a new tensor and leave the old one alone, because it may be recorded
or be part of a graph.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from circuitd.engine.errors import InterventionError
from circuitd.engine.interventions import (
    Add,
    Clamp,
    Freeze,
    Gate,
    Intervention,
    Keep,
    Mean,
    Patch,
    Project,
    Resample,
    Scale,
    Set,
    Zero,
)
from circuitd.engine.sites import Site
from circuitd.engine.window import Window

#: (value so far, value before any intervention at this site) -> new value
Kernel = Callable[[Tensor, Tensor], Tensor]


def lower(intervention: Intervention, site: Site, window: Window) -> Kernel:
    """The function that carries out `intervention` at `site` in `window`.

    Raises `InterventionError` naming the site, what was asked, and what is allowed.
    """
    if site.kind == "pattern" and not isinstance(intervention, Zero | Scale | Freeze):
        raise intervention.refused(
            f"a pattern takes no {intervention.kind}", "zero, scale and freeze"
        )
    if site.is_activation and isinstance(intervention, Freeze):
        raise intervention.refused(
            "only a pattern or a norm_scale can be frozen", "patch does this for an activation"
        )
    kernel = _kernel(intervention, site, window)
    mask = _selection_mask(intervention, site, window)
    if mask is None:
        return kernel
    return lambda x, original: torch.where(mask, kernel(x, original), x)


def selected_channels(intervention: Intervention, site: Site) -> list[int] | None:
    """Channel indices that `channels` or `heads` select; None when all are."""
    if intervention.channels is not None:
        if site.kind == "pattern":
            raise intervention.refused("a pattern has no channels", "heads, positions and rows")
        _check_range(intervention, "channel", intervention.channels, site.width)
        return list(intervention.channels)
    if intervention.heads is None:
        return None
    if not site.n_head:
        raise intervention.refused("this site has no heads", "heads exist at k, q, v, y, pattern")
    _check_range(intervention, "head", intervention.heads, site.n_head)
    d = max(site.d_head, 1)
    return [head * d + channel for head in intervention.heads for channel in range(d)]


def _check_range(intervention: Intervention, what: str, asked: tuple[int, ...], limit: int) -> None:
    if outside := [index for index in asked if not 0 <= index < limit]:
        raise intervention.refused(f"{what} {outside}", f"{what}s 0..{limit - 1}")


def _selection_mask(intervention: Intervention, site: Site, window: Window) -> Tensor | None:
    """Where the intervention acts, broadcastable to the value; None when everywhere."""
    parts: list[Tensor] = []
    is_pattern = site.kind == "pattern"
    channels = selected_channels(intervention, site)
    if channels is not None:
        chosen = torch.zeros(site.width, dtype=torch.bool, device=window.device)
        chosen[channels] = True
        parts.append(chosen[:, None, None] if is_pattern else chosen)
    if intervention.positions is not None:
        at = window.position_mask(intervention.positions, intervention.refused)
        parts.append(at[:, None, :, None] if is_pattern else at[:, :, None])
    if intervention.rows is not None:
        _check_range(intervention, "row", intervention.rows, window.n_rows)
        rows = torch.zeros(window.n_rows, dtype=torch.bool, device=window.device)
        rows[list(intervention.rows)] = True
        parts.append(rows[:, None, None, None] if is_pattern else rows[:, None, None])
    if not parts:
        return None
    mask = parts[0]
    for part in parts[1:]:
        mask = mask & part
    return mask


def _kernel(intervention: Intervention, site: Site, window: Window) -> Kernel:
    match intervention:
        case Zero():
            return lambda x, _: torch.zeros_like(x)
        case Mean(values=values):
            mean = _vector(intervention, "values", values, site, window)
            return lambda x, _: mean.expand_as(x)
        case Set(value=value):
            put = _placed(intervention, "value", value, site, window)
            return lambda x, _: put.expand_as(x)
        case Scale(factor=factor):
            return lambda x, _: x * factor
        case Add(vector=vector):
            added = _placed(intervention, "vector", vector, site, window)
            return lambda x, _: x + added
        case Project(directions=directions, keep=keep):
            basis = _basis(intervention, directions, site, window)
            if keep:
                return lambda x, _: (x @ basis.T) @ basis
            return lambda x, _: x - (x @ basis.T) @ basis
        case Clamp(lo=lo, hi=hi):
            return lambda x, _: x.clamp(lo, hi)
        case Patch(values=values):
            patch = _timed(intervention, "values", values, site, window)
            return lambda x, _: patch.expand_as(x)
        case Resample(source_rows=source_rows):
            source = _source_rows(intervention, source_rows, window)
            return lambda x, original: original[source]
        case Keep(mask=mask, fill=fill):
            if mask.dtype != torch.bool:
                raise intervention.refused(f"a mask of {mask.dtype}", "bool")
            kept = _rowwise(intervention, "mask", mask, site, window, torch.bool)
            fill_at = _fill(intervention, fill, site, window)
            return lambda x, _: torch.where(kept, x, fill_at)
        case Gate(gate=gate, fill=fill):
            open_part = _rowwise(intervention, "gate", gate, site, window, window.dtype)
            fill_at = _fill(intervention, fill, site, window)
            # lerp is exact at both ends, so a gate of zeros and ones equals `keep` bit by bit.
            return lambda x, _: torch.lerp(fill_at.expand_as(x), x, open_part.expand_as(x))
        case Freeze(values=values):
            if site.kind == "pattern":
                return _frozen_pattern(intervention, values, window)
            frozen = _timed(intervention, "values", values, site, window)
            return lambda x, _: frozen.expand_as(x)
        case _:
            raise intervention.refused("an unknown kind of intervention", "see interventions.py")


def _wrong_shape(
    intervention: Intervention, what: str, tensor: Tensor, allowed: str
) -> InterventionError:
    return intervention.refused(f"{what} of shape {list(tensor.shape)}", allowed)


def _vector(
    intervention: Intervention, what: str, values: Tensor, site: Site, window: Window
) -> Tensor:
    if tuple(values.shape) != (site.width,):
        raise _wrong_shape(intervention, what, values, f"[{site.width}]")
    return window.tensor(values)


def _placed(
    intervention: Intervention, what: str, value: Tensor | float, site: Site, window: Window
) -> Tensor:
    """A scalar, or one number per selected channel put at its channel: [] or [width]."""
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=window.dtype, device=window.device)
    if value.ndim == 0:
        return window.tensor(value)
    channels = selected_channels(intervention, site)
    n = site.width if channels is None else len(channels)
    if tuple(value.shape) != (n,):
        raise _wrong_shape(intervention, what, value, f"a number or [{n}], one per channel")
    given = window.tensor(value)
    if channels is None:
        return given
    return given.new_zeros(site.width).index_put((window.index(channels),), given)


def _rowwise(
    intervention: Intervention,
    what: str,
    values: Tensor,
    site: Site,
    window: Window,
    dtype: torch.dtype,
) -> Tensor:
    """[width] or [B, width] made broadcastable over positions."""
    shape, width = tuple(values.shape), site.width
    if shape == (width,):
        return window.tensor(values, dtype)
    if shape == (window.n_rows, width):
        return window.tensor(values, dtype)[:, None, :]
    raise _wrong_shape(intervention, what, values, f"[{width}] or [{window.n_rows}, {width}]")


def _fill(intervention: Intervention, fill: Tensor | None, site: Site, window: Window) -> Tensor:
    if fill is None:
        return torch.zeros((), dtype=window.dtype, device=window.device)
    if fill.ndim == 1:
        return _vector(intervention, "fill", fill, site, window)
    return _timed(intervention, "fill", fill, site, window)


def _timed(
    intervention: Intervention, what: str, values: Tensor, site: Site, window: Window
) -> Tensor:
    """[B or 1, T or 1, width] cut to the window's positions."""
    rows, limit, width = window.n_rows, window.limit, site.width
    allowed = f"[{rows} or 1, {limit} or 1, {width}]"
    if values.ndim != 3 or values.shape[0] not in (1, rows) or values.shape[2] != width:
        raise _wrong_shape(intervention, what, values, allowed)
    given = values.shape[1]
    if given == 1:
        return window.tensor(values)
    if given != limit or window.is_cached:
        last = _last_position(intervention, window)
        if last is None or last >= given:
            raise _wrong_shape(
                intervention, what, values, f"{allowed}, or positions within 0..{given - 1}"
            )
    part = window.tensor(values[:, window.start : window.stop])
    short = window.n_positions - part.shape[1]
    # What lies beyond the given values is not selected, so the padding is never seen.
    return part if short == 0 else torch.nn.functional.pad(part, (0, 0, 0, short))


def _last_position(intervention: Intervention, window: Window) -> int | None:
    """The largest selected position; None when positions are not limited."""
    if intervention.positions is None:
        return None
    chosen = window.resolve(intervention.positions, intervention.refused)
    return max((position for row in chosen for position in row), default=-1)


def _basis(intervention: Intervention, directions: Tensor, site: Site, window: Window) -> Tensor:
    """Orthonormal rows [rank, width] spanning the directions."""
    if directions.ndim != 2 or directions.shape[1] != site.width or not directions.shape[0]:
        raise _wrong_shape(intervention, "directions", directions, f"[1 or more, {site.width}]")
    # Dependent directions must not add dimensions, hence the rank and not plain QR.
    _, singular, rows = torch.linalg.svd(directions.detach().double().cpu(), full_matrices=False)
    tolerance = 1e-6 * float(singular[0])
    return window.tensor(rows[singular > tolerance])


def _source_rows(
    intervention: Intervention, source_rows: tuple[int, ...], window: Window
) -> Tensor:
    if len(source_rows) != window.n_rows:
        raise intervention.refused(
            f"{len(source_rows)} source rows", f"{window.n_rows}, one for each row"
        )
    _check_range(intervention, "source row", source_rows, window.n_rows)
    if window.lengths is not None:
        acting = range(window.n_rows) if intervention.rows is None else intervention.rows
        for row in acting:
            if window.lengths[source_rows[row]] < window.lengths[row]:
                raise intervention.refused(
                    f"row {row} ({window.lengths[row]} tokens) from the shorter row "
                    f"{source_rows[row]} ({window.lengths[source_rows[row]]} tokens)",
                    "source rows at least as long",
                )
    return window.index(list(source_rows))


def _frozen_pattern(intervention: Intervention, values: Tensor, window: Window) -> Kernel:
    if window.is_cached:
        raise intervention.refused(
            "a frozen pattern in generation, where it grows with every step", "forward passes"
        )
    frozen = window.tensor(values)

    def put(x: Tensor, _: Tensor) -> Tensor:
        if (
            frozen.ndim != 4
            or frozen.shape[0] not in (1, x.shape[0])
            or (frozen.shape[1:] != x.shape[1:])
        ):
            rows, *rest = x.shape
            raise _wrong_shape(intervention, "values", values, f"[{rows} or 1, {rest}]")
        return frozen.expand_as(x)

    return put

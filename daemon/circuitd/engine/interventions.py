"""Interventions: small frozen values that say what to put at a site in place of what was computed.

Each names a `site` and may select `channels` or `heads`, `positions` and `rows`; None means all.
What is not selected stays as it was. Several at one site act in the order in which the plan lists
them, each on the result of the one before.

Positions are absolute; a negative one counts from each row's own end. `width` below is the site's
number of channels, `n` the number of selected channels (`heads` select all channels of a head).
Values indexed by position may cover fewer positions than the run if `positions` stays in them.

    Zero()                      0
    Mean(values)                values [width]: usually the site's pretraining mean
    Set(value)                  value scalar or [n]
    Scale(factor)               factor * x
    Add(vector)                 x + vector, scalar or [n]
    Project(directions, keep)   onto the span of directions [m, width], or (keep=False) off it
    Clamp(lo, hi)               limited to lo..hi, either may be None
    Patch(values)               values [B or 1, T or 1, width], captured in another run
    Resample(source_rows)       what row source_rows[b] computes here in this same forward pass
    Keep(mask, fill)            x where mask [width] or [B, width], else fill
    Gate(gate, fill)            gate * x + (1 - gate) * fill; differentiable in gate
    Freeze(values)              a pattern [B or 1, H, T, S] or a norm_scale [B or 1, T or 1, 1]

`fill` is [width] or [B or 1, T or 1, width]; None means 0. A `pattern` takes Zero, Scale and Freeze
(heads, query positions and rows may be selected); a `norm_scale` has one channel and takes all
kinds; Freeze is for those two only.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from circuitd.engine.errors import InterventionError

#: Absolute positions (negative: from each row's end) and slices of them.
Positions = tuple[int | slice, ...]


@dataclass(frozen=True, eq=False)
class Intervention:
    """Base: where to act. Values are checked for NaN and infinity when made, shapes when run."""

    site: str
    _: KW_ONLY
    channels: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    positions: Positions | None = None
    rows: tuple[int, ...] | None = None

    @property
    def kind(self) -> str:
        """The intervention's name as people write it: zero, mean, set, …"""
        return type(self).__name__.lower()

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The numbers that the intervention brings along."""
        return ()

    def __post_init__(self) -> None:
        if self.channels is not None and self.heads is not None:
            raise self.refused("both channels and heads are selected", "a head is its channels")
        for value in self.values_given:
            if isinstance(value, Tensor):
                # A learned gate changes every step; its owner watches it, and the check would wait
                # for the device.
                checked = value.is_floating_point() and not value.requires_grad
                finite = not checked or bool(torch.isfinite(value).all())
            else:
                finite = value is None or math.isfinite(value)
            if not finite:
                raise self.refused("its values hold NaN or infinity", "values must be finite")

    @property
    def is_differentiable(self) -> bool:
        """Whether a gradient is wanted with respect to its own values."""
        return any(isinstance(v, Tensor) and v.requires_grad for v in self.values_given)

    def refused(self, found: str, allowed: str) -> InterventionError:
        """The error that says why this intervention cannot act, and what is allowed."""
        return InterventionError(f"{self.kind} at {self.site}", found, allowed)


@dataclass(frozen=True, eq=False)
class Zero(Intervention):
    """Put 0."""


@dataclass(frozen=True, eq=False)
class Mean(Intervention):
    """Put `values` [width] of each channel: its mean over some distribution."""

    values: Tensor

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The means."""
        return (self.values,)


@dataclass(frozen=True, eq=False)
class Set(Intervention):
    """Put `value`: one number, or [n], one per selected channel."""

    value: Tensor | float

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The value."""
        return (self.value,)


@dataclass(frozen=True, eq=False)
class Scale(Intervention):
    """Multiply by `factor`."""

    factor: float

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The factor."""
        return (self.factor,)


@dataclass(frozen=True, eq=False)
class Add(Intervention):
    """Add `vector`: one number, or [n], one per selected channel."""

    vector: Tensor | float

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The vector."""
        return (self.vector,)


@dataclass(frozen=True, eq=False)
class Project(Intervention):
    """Keep only the part in the span of `directions` [m, width], or only the rest.

    The directions need be neither orthogonal, nor of unit length, nor independent.
    """

    directions: Tensor
    keep: bool

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The directions."""
        return (self.directions,)


@dataclass(frozen=True, eq=False)
class Clamp(Intervention):
    """Limit to `lo`..`hi`; None leaves that side open."""

    lo: float | None
    hi: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lo is None and self.hi is None:
            raise self.refused("neither lo nor hi is given", "give at least one")
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise self.refused(f"lo={self.lo} is above hi={self.hi}", "lo must not exceed hi")

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """Both limits."""
        return (self.lo, self.hi)


@dataclass(frozen=True, eq=False)
class Patch(Intervention):
    """Put `values` [B or 1, T or 1, width] captured in another run."""

    values: Tensor

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The captured activation."""
        return (self.values,)


@dataclass(frozen=True, eq=False)
class Resample(Intervention):
    """Put into row b what row `source_rows[b]` [B] computes here in the same forward pass.

    Taken before any intervention at this site. In a ragged batch the source must be as long.
    """

    source_rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Keep(Intervention):
    """Leave x where `mask` (bool [width] or [B, width]), put `fill` elsewhere: a circuit."""

    mask: Tensor
    fill: Tensor | None = None

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """Mask and fill."""
        return (self.mask, self.fill)


@dataclass(frozen=True, eq=False)
class Gate(Intervention):
    """Put gate * x + (1 - gate) * fill, `gate` float [width] or [B, width]; exact at 0 and 1."""

    gate: Tensor
    fill: Tensor | None = None

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """Gate and fill."""
        return (self.gate, self.fill)


@dataclass(frozen=True, eq=False)
class Freeze(Intervention):
    """Hold a pattern at `values` [B or 1, H, T, S], or a norm_scale at [B or 1, T or 1, 1]."""

    values: Tensor

    @property
    def values_given(self) -> tuple[Tensor | float | None, ...]:
        """The frozen values."""
        return (self.values,)

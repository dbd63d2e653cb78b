"""Interventions as declared values: what to change inside a forward pass, never code.

Each names a `site` (a selector: exact name, glob, `re:` regex or TransformerLens alias) and, if it
does not mean all of it, `channels` or `heads`, `positions` (negative ones count from each row's own
end) and `rows` of the batch. They compose in the order they are given. A selector that matches
nothing is an error with the nearest names.
"""

from typing import Literal

import msgspec

from circuit_protocol.tensors import Handle, Tensor

#: A tensor sent along, or one the daemon holds.
Values = Tensor | Handle


class SiteChannels(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Some channels of one site (exact name); `None` means all of them."""

    site: str
    channels: tuple[int, ...] | None = None


#: Nodes of a model: what a circuit keeps, or what an ablation removes.
NodeSet = tuple[SiteChannels, ...]


class _At(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="op"):
    """Where an intervention acts."""

    site: str
    channels: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    rows: tuple[int, ...] | None = None


class Zero(_At, frozen=True, tag="zero"):
    """Set to zero."""


class Mean(_At, frozen=True, tag="mean"):
    """Set to the pretraining mean of each channel; `values` [width] overrides the model's own."""

    values: Values | None = None


class Set(_At, frozen=True, tag="set"):
    """Set to `value`: a number, or one number per selected channel."""

    value: float | Values


class Scale(_At, frozen=True, tag="scale"):
    """Multiply by `factor`."""

    factor: float


class Add(_At, frozen=True, tag="add"):
    """Add `vector`: one number per selected channel."""

    vector: Values


class Project(_At, frozen=True, tag="project"):
    """Remove (or keep only) the span of `directions` [n, selected channels], orthonormalised."""

    directions: Values
    keep: bool = False


class Clamp(_At, frozen=True, tag="clamp"):
    """Limit to [low, high]."""

    low: float | None = None
    high: float | None = None


class Patch(_At, frozen=True, tag="patch"):
    """Replace by `values` [rows or 1, positions, width]: an activation captured elsewhere."""

    values: Values


class Resample(_At, frozen=True, tag="resample"):
    """Replace by the same site of other rows of this batch, as computed before interventions there.

    Row i takes row `source_rows[i]`; without them, a permutation drawn from `seed`.
    """

    source_rows: tuple[int, ...] | None = None
    seed: int = 0


class Keep(_At, frozen=True, tag="keep"):
    """Keep the nodes of a circuit and ablate every other node of the model.

    `site` is a selector of the node sites that are masked ("*": all); node sites `nodes` does not
    name keep nothing. `fill` is what ablated nodes become.
    """

    nodes: NodeSet
    fill: Literal["mean", "zero"] = "mean"


class Freeze(_At, frozen=True, tag="freeze"):
    """Hold an attention pattern (`*.attn.pattern`) or a norm's scale (`*.norm_scale`) fixed.

    `values` come from a captured run; without them, from the same prompts with no intervention.
    """

    values: Values | None = None


Intervention = Zero | Mean | Set | Scale | Add | Project | Clamp | Patch | Resample | Keep | Freeze

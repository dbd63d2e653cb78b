"""Interventions under short names: `iv.zero("2.mlp.post_act", channels=[1])`.

Each function gives a small immutable value that says what to change inside a forward pass. Where a
number per channel, a vector or an activation is needed, give an array, or a `Value` of an earlier
answer: a held one is used where it lies, in the daemon. They compose in the order of the list they
stand in. `channels`, `heads`, `positions` (negative ones count from each row's end) and `rows`
narrow an intervention; without them it acts on the whole site.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from circuit_client.prompts import NodesLike, pack_nodes
from circuit_client.values import Parcel, TensorLike
from circuit_protocol import interventions as protocol
from circuit_protocol.errors import BadShape


class At(TypedDict, total=False):
    """Which part of the site an intervention acts on."""

    channels: Iterable[int] | None
    heads: Iterable[int] | None
    positions: Iterable[int] | None
    rows: Iterable[int] | None


@dataclass(frozen=True, slots=True)
class Declared:
    """An intervention whose tensors are not packed into a message yet."""

    op: type[protocol.Intervention]
    fields: dict[str, Any]
    tensors: dict[str, TensorLike] = field(default_factory=dict)

    def pack(self, parcel: Parcel) -> protocol.Intervention:
        """The protocol's struct, its arrays added to `parcel`."""
        packed: dict[str, Any] = {n: parcel.value(v) for n, v in self.tensors.items()}
        return self.op(**self.fields, **packed)


#: What a verb takes as an intervention: made here, or a struct of the protocol.
InterventionLike = Declared | protocol.Intervention


def pack_all(
    interventions: Sequence[InterventionLike] | InterventionLike, parcel: Parcel
) -> tuple[protocol.Intervention, ...]:
    """All of `interventions` in order, as the protocol carries them."""
    if isinstance(interventions, Declared | protocol.Intervention):
        interventions = (interventions,)
    return tuple(i.pack(parcel) if isinstance(i, Declared) else i for i in interventions)


def _at(site: str, at: At) -> dict[str, Any]:
    where: dict[str, Any] = {"site": site}
    for name in ("channels", "heads", "positions", "rows"):
        numbers = at.get(name)
        if numbers is not None:
            where[name] = tuple(int(n) for n in numbers)
    return where


def zero(site: str, **at: Unpack[At]) -> Declared:
    """Set to zero."""
    return Declared(protocol.Zero, _at(site, at))


def mean(site: str, values: TensorLike | None = None, **at: Unpack[At]) -> Declared:
    """Set to the pretraining mean of each channel; `values` [width] replaces the model's own."""
    return Declared(protocol.Mean, _at(site, at), {} if values is None else {"values": values})


def set(site: str, value: float | TensorLike, **at: Unpack[At]) -> Declared:
    """Set to a number, or to one number per selected channel."""
    if isinstance(value, int | float):
        return Declared(protocol.Set, _at(site, at) | {"value": float(value)})
    return Declared(protocol.Set, _at(site, at), {"value": value})


def scale(site: str, factor: float, **at: Unpack[At]) -> Declared:
    """Multiply by `factor`."""
    return Declared(protocol.Scale, _at(site, at) | {"factor": float(factor)})


def add(site: str, vector: TensorLike, **at: Unpack[At]) -> Declared:
    """Add one number per selected channel."""
    return Declared(protocol.Add, _at(site, at), {"vector": vector})


def project(site: str, directions: TensorLike, *, keep: bool = False, **at: Unpack[At]) -> Declared:
    """Remove the span of `directions` [n, selected channels], or keep nothing else."""
    return Declared(protocol.Project, _at(site, at) | {"keep": keep}, {"directions": directions})


def clamp(
    site: str, low: float | None = None, high: float | None = None, **at: Unpack[At]
) -> Declared:
    """Limit to [low, high]; leave one out to limit at one side only."""
    if low is None and high is None:
        raise BadShape("a clamp needs low, high or both", asked=f"clamp of {site}")
    return Declared(protocol.Clamp, _at(site, at) | {"low": low, "high": high})


def patch(site: str, values: TensorLike, **at: Unpack[At]) -> Declared:
    """Replace by an activation captured elsewhere, [rows or 1, positions, width]."""
    return Declared(protocol.Patch, _at(site, at), {"values": values})


def resample(
    site: str, source_rows: Iterable[int] | None = None, *, seed: int = 0, **at: Unpack[At]
) -> Declared:
    """Replace by the same site of other rows: row i takes `source_rows[i]`, or a permutation."""
    rows = None if source_rows is None else tuple(int(r) for r in source_rows)
    return Declared(protocol.Resample, _at(site, at) | {"source_rows": rows, "seed": seed})


def keep(nodes: NodesLike, site: str = "*", *, fill: Literal["mean", "zero"] = "mean") -> Declared:
    """Keep the nodes of a circuit, ablate every other node of the sites `site` selects."""
    return Declared(protocol.Keep, {"site": site, "nodes": pack_nodes(nodes), "fill": fill})


def freeze(site: str, values: TensorLike | None = None) -> Declared:
    """Hold an attention pattern or a norm's scale: at `values`, or as it is undisturbed."""
    return Declared(protocol.Freeze, {"site": site}, {} if values is None else {"values": values})

"""Interventions as clients declare them become the engine's, for one model and one batch.

Selectors become sites, a mean its numbers, a circuit one mask per masked site, a seed source rows,
a `freeze` without values those of a clean run. What the engine can check itself (channels, heads,
positions, rows, shapes) is left to it: its errors name site and limits, and are mapped in `errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from circuit_protocol import interventions as wire
from circuit_protocol.errors import BadIntervention, BadShape, InvalidRequest
from circuit_protocol.limits import FLOATS, check_tensor
from circuitd.engine import gpt
from circuitd.engine import interventions as engine
from circuitd.engine.config import GPTConfig
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import node_sites, select, site_named
from circuitd.worker.context import Context
from circuitd.worker.prompts import Batch


def translate(
    context: Context, declared: Sequence[wire.Intervention], batch: Batch
) -> tuple[engine.Intervention, ...]:
    """The engine's interventions, in the declared order.

    Raises NotFound for unknown sites, handles and missing means, BadIntervention and BadShape for
    what cannot act, and the engine's own errors.
    """
    return tuple(one for each in declared for one in _each(context, each, batch))


def is_row_independent(interventions: Sequence[engine.Intervention]) -> bool:
    """Whether the rows of a batch may be computed in several passes under these interventions."""
    return all(
        one.rows is None
        and not isinstance(one, engine.Resample)
        and not (isinstance(one, engine.Patch | engine.Freeze) and one.values.shape[0] != 1)
        for one in interventions
    )


def circuit_masks(
    config: GPTConfig, nodes: wire.NodeSet, sites: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Which channels a circuit keeps: a bool mask [width] for each of the node sites `sites`.

    Sites that `nodes` does not name keep nothing. Raises NotFound or BadIntervention for nodes
    that do not exist.
    """
    masks = {s.name: torch.zeros(s.width, dtype=torch.bool) for s in node_sites(config)}
    for kept in nodes:
        name = site_named(config, kept.site).name
        mask = masks.get(name)
        if mask is None:
            raise BadIntervention(
                "this site has no nodes", asked=name, hint=f"Node sites are {', '.join(masks)}"
            )
        if kept.channels is None:
            mask[:] = True
            continue
        if outside := [c for c in kept.channels if not 0 <= c < len(mask)]:
            raise BadIntervention(
                f"{name} has no such channel",
                asked=str(outside[0]),
                hint=f"Channels are 0 to {len(mask) - 1}",
            )
        mask[list(kept.channels)] = True
    return {name: masks[name] for name in sites}


def _each(
    context: Context, declared: wire.Intervention, batch: Batch
) -> Iterator[engine.Intervention]:
    model = context.model
    names = select(model.config, declared.site)
    if isinstance(declared, wire.Keep):
        yield from _keep(context, declared, names)
        return
    if isinstance(declared, wire.Freeze):
        yield from _freeze(context, declared, names, batch)
        return
    for name in names:
        yield _one(context, declared, name, batch)


def _one(
    context: Context, declared: wire.Intervention, site: str, batch: Batch
) -> engine.Intervention:
    at = _Where(declared, site)
    match declared:
        case wire.Zero():
            return at.make(engine.Zero)
        case wire.Mean(values=None):
            return at.make(engine.Mean, _own_mean(context, site))
        case wire.Mean(values=given) if given is not None:
            return at.make(engine.Mean, _floats(context, given, "values"))
        case wire.Set(value=value):
            return at.make(engine.Set, _number_or_floats(context, value, "value"))
        case wire.Scale(factor=factor):
            return at.make(engine.Scale, factor)
        case wire.Add(vector=vector):
            return at.make(engine.Add, _floats(context, vector, "vector"))
        case wire.Project(directions=given, keep=keep):
            directions = _widened(context, declared, _floats(context, given, "directions"), site)
            return at.make(engine.Project, directions, keep)
        case wire.Clamp(low=low, high=high):
            return at.make(engine.Clamp, low, high)
        case wire.Patch(values=given):
            return at.make(engine.Patch, _floats(context, given, "values"))
        case wire.Resample():
            return at.make(engine.Resample, _source_rows(declared, batch))
        case _:
            raise InvalidRequest("this kind of intervention is unknown", asked=repr(declared)[:80])


class _Where:
    """Site and selection of a declared intervention, in the engine's words."""

    def __init__(self, declared: wire.Intervention, site: str) -> None:
        self._site = site
        self._selection = {
            "channels": declared.channels,
            "heads": declared.heads,
            "positions": declared.positions,
            "rows": declared.rows,
        }

    def make(self, kind: type[engine.Intervention], *values: object) -> engine.Intervention:
        return kind(self._site, *values, **self._selection)


def _own_mean(context: Context, site: str) -> torch.Tensor:
    mean = context.model.means.get(site)
    if mean is None:
        raise BadIntervention(
            "the model has means of its node sites only",
            asked=site,
            hint="Give `values`, or choose a node site (models.describe lists them)",
        )
    return mean


def _keep(
    context: Context, declared: wire.Keep, names: Sequence[str]
) -> Iterator[engine.Intervention]:
    config = context.model.config
    if declared.channels is not None or declared.heads is not None:
        raise BadIntervention(
            "a circuit is kept by its `nodes`", asked="keep with channels or heads"
        )
    masked = [name for name in names if site_named(config, name).is_node_site]
    if not masked:
        raise BadIntervention(
            "no node site is selected", asked=declared.site, hint="Use '*' to mask all node sites"
        )
    for site, mask in circuit_masks(config, declared.nodes, masked).items():
        fill = _own_mean(context, site) if declared.fill == "mean" else None
        if not bool(mask.all()):
            yield _Where(declared, site).make(engine.Keep, mask, fill)


def _freeze(
    context: Context, declared: wire.Freeze, names: Sequence[str], batch: Batch
) -> Iterator[engine.Intervention]:
    config = context.model.config
    if wrong := [name for name in names if site_named(config, name).is_activation]:
        raise BadIntervention(
            "only attention patterns and norm scales can be frozen",
            asked=wrong[0],
            hint="Select *.attn.pattern or *norm_scale; `patch` replaces an activation",
        )
    if declared.values is not None:
        values = _floats(context, declared.values, "values")
        clean = dict.fromkeys(names, values)
    else:
        plan = Plan(
            record=tuple(Record(name) for name in names),
            logits="none",
            lengths=batch.plan_lengths,
            stop_after=names[-1],
            cancelled=context.stop,
        )
        clean = dict(gpt.forward(context.model.weights, batch.tokens, plan).records)
    for name in names:
        yield _Where(declared, name).make(engine.Freeze, clean[name])


def _source_rows(declared: wire.Resample, batch: Batch) -> tuple[int, ...]:
    """Row each row is taken from: as given, or drawn so that no row keeps its own.

    Drawn among rows of equal length, in one cycle; a row that is alone with its length takes any
    longer one. Raises BadIntervention where there is neither.
    """
    if declared.source_rows is not None:
        return declared.source_rows
    draw = np.random.default_rng(declared.seed)
    lengths = batch.lengths.tolist()
    source = list(range(len(lengths)))
    for length in sorted(set(lengths)):
        group = [row for row, n in enumerate(lengths) if n == length]
        if len(group) > 1:
            cycle = [group[i] for i in draw.permutation(len(group))]
            for row, other in zip(cycle, cycle[1:] + cycle[:1], strict=True):
                source[row] = other
            continue
        longer = [row for row, n in enumerate(lengths) if n > length]
        acts = declared.rows is None or group[0] in declared.rows
        if longer:
            source[group[0]] = longer[int(draw.integers(len(longer)))]
        elif acts:
            raise BadIntervention(
                "there is no other row to resample from",
                asked=f"row {group[0]} of {length} tokens",
                hint="Resampling takes rows of at least the same length: add some, or use mean",
            )
    return tuple(source)


def _widened(
    context: Context, declared: wire.Project, directions: torch.Tensor, site: str
) -> torch.Tensor:
    """Directions over the selected channels, put at their channels: [n, width]."""
    place = site_named(context.model.config, site)
    channels = declared.channels
    if declared.heads is not None:
        d = max(place.d_head, 1)
        channels = tuple(head * d + c for head in declared.heads for c in range(d))
    n = place.width if channels is None else len(channels)
    if directions.ndim != 2 or directions.shape[1] != n:
        raise BadShape(
            "directions do not fit the selected channels",
            asked=str(list(directions.shape)),
            hint=f"At {site} they must be [any, {n}]",
        )
    if channels is None or any(not 0 <= c < place.width for c in channels):
        return directions  # the engine refuses channels that do not exist, by name
    wide = directions.new_zeros(directions.shape[0], place.width)
    wide[:, list(channels)] = directions
    return wide


def _number_or_floats(
    context: Context, value: float | wire.Values, name: str
) -> torch.Tensor | float:
    return value if isinstance(value, int | float) else _floats(context, value, name)


def _floats(context: Context, values: wire.Values, name: str) -> torch.Tensor:
    check_tensor(values, name, dtypes=FLOATS)
    return context.tensor(values)

"""Cuts: single weights whose flow is replaced, so that one edge is ablated and no node is.

Along a cut edge flows `fill` instead of what its source node holds; every other reader of that node
sees it unchanged. Cutting with fill 0 equals setting the weight to zero; with a constant fill, that
plus `weight * fill` on the target's bias. Edges out of `v` pass through the attention pattern, so
their fill is attended to like any value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import InterventionError, PlanError
from circuitd.engine.nonzeros import WeightMatrix
from circuitd.engine.sites import site_named
from circuitd.engine.window import Window

#: Source and target, without the layer, of every matrix whose weights can be cut: the edges of a
#: circuit are exactly these (FACTS 1), in the order in which a layer computes them.
CUTTABLE = (
    ("attn.act_in", "attn.q"),
    ("attn.act_in", "attn.k"),
    ("attn.act_in", "attn.v"),
    ("attn.v", "attn.resid_delta"),
    ("mlp.act_in", "mlp.post_act"),
    ("mlp.post_act", "mlp.resid_delta"),
)


@dataclass(frozen=True, eq=False)
class Cut:
    """One edge, cut in `rows` (None: all). `fill` is a number, or [B or 1, T or 1]."""

    source: str
    target: str
    source_channel: int
    target_channel: int
    fill: Tensor | float = 0.0
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class _Entries:
    """The cuts of one matrix, one entry per cut and row: indices [n] and fills [n, T]."""

    rows: Tensor
    sources: Tensor
    targets: Tensor
    fills: Tensor


class EdgeCuts:
    """The cuts of one pass, checked and grouped by matrix. Empty for most passes."""

    def __init__(self, config: GPTConfig, cuts: Iterable[Cut], window: Window) -> None:
        grouped: dict[tuple[str, str], list[Cut]] = {}
        for cut in cuts:
            grouped.setdefault(_checked(config, cut, window), []).append(cut)
        self._entries = {pair: _lower(cuts, window) for pair, cuts in grouped.items()}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def reads(self, source: str, target: str) -> bool:
        """Whether an edge from `source` to `target` is cut."""
        return (source, target) in self._entries

    def filled(self, source: str, target: str, value: Tensor) -> Tensor:
        """`value` [B, T, width] of the source as the cut edges carry it."""
        e = self._entries[source, target]
        filled = value.clone()
        filled[e.rows, :, e.sources] = e.fills.to(value.dtype)
        return filled

    def apply(
        self,
        source: str,
        target: str,
        pre: Tensor,
        value: Tensor,
        matrix: WeightMatrix,
        first_row: int = 0,
    ) -> Tensor:
        """`pre` [B, T, target width] without what flowed along the cut edges of this matrix.

        `value` [B, T, source width] is what was multiplied by the rows of `matrix` […, source
        width] from `first_row` on.
        """
        if not self.reads(source, target):
            return pre
        filled = self.filled(source, target, value)
        return self.replace(source, target, pre, value, filled, matrix, first_row)

    def replace(
        self,
        source: str,
        target: str,
        pre: Tensor,
        value: Tensor,
        filled: Tensor,
        matrix: WeightMatrix,
        first_row: int = 0,
    ) -> Tensor:
        """As `apply`, when what the cut edges carry was computed elsewhere (`filled`)."""
        e = self._entries[source, target]
        weights = matrix.entries(first_row + e.targets, e.sources)
        change = (filled - value)[e.rows, :, e.sources] * weights[:, None]
        positions = torch.arange(pre.shape[1], device=pre.device)
        at = (e.rows[:, None], positions[None], e.targets[:, None])
        return pre.index_put(at, change, accumulate=True)


def _checked(config: GPTConfig, cut: Cut, window: Window) -> tuple[str, str]:
    """The exact site names of a cut that is possible, else an error that says why not."""
    source, target = site_named(config, cut.source), site_named(config, cut.target)
    asked = f"cut {source.name}[{cut.source_channel}] -> {target.name}[{cut.target_channel}]"
    kinds = (source.name.partition(".")[2], target.name.partition(".")[2])
    if window.is_cached:
        raise PlanError(asked, "generation with a cache cuts no edges", "use forward passes")
    if kinds not in CUTTABLE or source.layer != target.layer:
        allowed = ", ".join(f"{a} -> {b}" for a, b in CUTTABLE)
        raise InterventionError(asked, "no weight joins these sites", f"in one layer: {allowed}")
    for site, channel in ((source, cut.source_channel), (target, cut.target_channel)):
        if not 0 <= channel < site.width:
            raise InterventionError(
                asked, f"{site.name} has {site.width} channels", f"channels 0..{site.width - 1}"
            )
    for row in cut.rows or ():
        if not 0 <= row < window.n_rows:
            raise InterventionError(asked, f"row {row}", f"rows 0..{window.n_rows - 1}")
    return source.name, target.name


def _lower(cuts: list[Cut], window: Window) -> _Entries:
    fills: dict[tuple[int, int, int], Tensor] = {}
    by_source: dict[tuple[int, int], Tensor | float] = {}
    for cut in cuts:
        fill = window.tensor(torch.as_tensor(cut.fill))
        fill = fill.expand(window.n_rows, window.n_positions)
        for row in range(window.n_rows) if cut.rows is None else cut.rows:
            earlier = by_source.setdefault((row, cut.source_channel), cut.fill)
            if earlier is not cut.fill and not torch.equal(
                torch.as_tensor(earlier), torch.as_tensor(cut.fill)
            ):
                raise InterventionError(
                    f"cuts from {cut.source}[{cut.source_channel}] in row {row}",
                    "they carry different fills",
                    "one fill for each source channel, matrix and row",
                )
            fills[row, cut.source_channel, cut.target_channel] = fill[row]
    rows, sources, targets = (list(index) for index in zip(*fills, strict=True))
    return _Entries(
        window.index(rows),
        window.index(sources),
        window.index(targets),
        torch.stack(list(fills.values())),
    )

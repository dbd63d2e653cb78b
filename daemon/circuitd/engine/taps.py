"""Taps: what a plan does at each site of one forward pass.

The network calls `x = taps(site, x)` wherever an activation is complete. At a site that the plan
does not name this is one dictionary look-up. One `Taps` belongs to one pass of one caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from circuitd.engine.config import GPTConfig
from circuitd.engine.cuts import EdgeCuts
from circuitd.engine.errors import Cancelled, PlanError
from circuitd.engine.lowering import Kernel, lower
from circuitd.engine.plan import Plan, Record
from circuitd.engine.recording import check_record, recorded
from circuitd.engine.sites import Site, site_named, sites
from circuitd.engine.window import Window


class Stopped(Exception):
    """Not an error: the plan's `stop_after` was reached, and nothing after it was asked for."""


@dataclass
class _Stop:
    """What happens at one site."""

    kernels: list[Kernel] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    wants_gradient: bool = False
    is_last: bool = False


class Taps:
    """The lowered plan and what it has collected so far.

    Raises, when made, everything that can be wrong with the plan's sites, selections and values.
    `first_site` is where the pass starts: a plan that names an earlier site is refused.
    """

    def __init__(
        self, config: GPTConfig, plan: Plan, window: Window, first_site: str | None = None
    ) -> None:
        self._plan = plan
        self._window = window
        self._config = config
        self._stops: dict[str, _Stop] = {}
        self._first_site = first_site
        self.cuts = EdgeCuts(config, plan.cuts, window)
        self.records: dict[str, Tensor] = {}
        self.indices: dict[str, Tensor] = {}
        #: Activations to differentiate with respect to, filled as the pass reaches them.
        self.gradient_points: dict[str, Tensor] = {}
        for cut in plan.cuts:
            self._reachable(cut.source)
        for intervention in plan.interventions:
            site = self._reachable(intervention.site)
            self._at(site).kernels.append(lower(intervention, site, window))
        for record in plan.record:
            site = self._reachable(record.site)
            check_record(record, site, window)
            self._at(site).records.append(record)
        if plan.gradient is not None:
            for name in plan.gradient.sites:
                self._at(self._reachable(name)).wants_gradient = True
        if plan.stop_after is not None:
            self._at(self._reachable(plan.stop_after)).is_last = True

    def _at(self, site: Site) -> _Stop:
        return self._stops.setdefault(site.name, _Stop())

    def _reachable(self, name: str) -> Site:
        site = site_named(self._config, name)
        if self._first_site is not None:
            order = [other.name for other in sites(self._config)]
            if order.index(site.name) < order.index(self._first_site):
                raise PlanError(
                    f"site {site.name}", f"the pass starts after it, at {self._first_site}"
                )
        return site

    def wants(self, site: str) -> bool:
        """Whether the value of `site` must exist as a tensor of its own."""
        return site in self._stops

    @property
    def is_idle(self) -> bool:
        """Whether the pass is what it would be without a plan."""
        return not self._stops and not self.cuts

    def check_cancelled(self) -> None:
        """Raise `Cancelled` when the caller no longer wants the answer."""
        if self._plan.cancelled is not None and self._plan.cancelled():
            raise Cancelled()

    def __call__(self, site: str, x: Tensor) -> Tensor:
        """The value that flows on from `site`, given the computed value `x`."""
        stop = self._stops.get(site)
        if stop is None:
            return x
        original = x
        for kernel in stop.kernels:
            x = kernel(x, original)
        if stop.wants_gradient:
            if not x.requires_grad:
                x = x.detach().requires_grad_()
            self.gradient_points[site] = x
        for record in stop.records:
            values, indices = recorded(
                record, x.detach(), site_named(self._config, site), self._window
            )
            self.records[record.name] = values
            if indices is not None:
                self.indices[record.name] = indices
        if stop.is_last:
            raise Stopped
        return x

    def gradients(self, objective: Tensor) -> dict[str, Tensor]:
        """Gradient of the scalar `objective` at every site asked for; zeros where it has none."""
        points = self.gradient_points
        if not objective.requires_grad:
            return {site: torch.zeros_like(x) for site, x in points.items()}
        found = torch.autograd.grad(
            objective,
            list(points.values()),
            retain_graph=self._plan.has_learned_values,
            materialize_grads=True,
        )
        return dict(zip(points, found, strict=True))

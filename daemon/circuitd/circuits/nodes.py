"""Nodes: the channels a circuit may keep, numbered from 0 in the order of the model's node sites.

A node is one channel of one node site (FACTS: act_in, q, k, v, resid_delta of attention; act_in,
post_act, resid_delta of the MLP; final_resid). Sites of equal width are different index spaces, so
a channel number means nothing without its site; this module is the only place that converts.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import InterventionError, UnknownSite
from circuitd.engine.sites import Site, node_sites, select


@dataclass(frozen=True)
class NodeSpace:
    """The numbering of one configuration's nodes: node = offsets[site] + channel."""

    config: GPTConfig
    sites: tuple[Site, ...]
    offsets: dict[str, int]
    n_nodes: int

    def span(self, site: str) -> slice:
        """The nodes of `site`, as a slice of an array [n_nodes]. Raises `UnknownSite`."""
        try:
            start = self.offsets[site]
        except KeyError:
            select(self.config, site)  # raises with the nearest names if there is no such site
            raise UnknownSite(
                f"node site {site!r}",
                "its channels are no nodes of a circuit",
                f"node sites: {', '.join(s.name for s in self.sites[:8])}, …",
            ) from None
        return slice(start, start + self.width(site))

    def width(self, site: str) -> int:
        """Number of channels of a node site."""
        return next(s.width for s in self.sites if s.name == site)

    def nodes(self, site: str, channels: Iterable[int] | None = None) -> np.ndarray:
        """Numbers [n] of some channels of `site` (None: all). Raises on a channel out of range."""
        span = self.span(site)
        if channels is None:
            return np.arange(span.start, span.stop)
        chosen = np.asarray(list(channels), dtype=np.int64)
        wrong = chosen[(chosen < 0) | (chosen >= span.stop - span.start)]
        if wrong.size:
            raise InterventionError(
                f"channels {wrong[:5].tolist()} of {site}",
                f"it has {span.stop - span.start} channels",
                f"use 0 to {span.stop - span.start - 1}",
            )
        return span.start + chosen

    def selected(self, selector: str) -> tuple[str, ...]:
        """The node sites among those `selector` matches; `UnknownSite` if there are none."""
        matched = [name for name in select(self.config, selector) if name in self.offsets]
        if not matched:
            self.span(select(self.config, selector)[0])  # raises: not a node site
        return tuple(matched)

    def mask(self, node_set: Iterable[tuple[str, Iterable[int] | None]]) -> np.ndarray:
        """BOOL [n_nodes], True for the named nodes; sites may be selectors."""
        mask = np.zeros(self.n_nodes, dtype=bool)
        for selector, channels in node_set:
            chosen = None if channels is None else tuple(channels)
            for site in self.selected(selector):
                mask[self.nodes(site, chosen)] = True
        return mask

    def describe(self, node: int) -> tuple[str, int]:
        """Site and channel of node number `node`."""
        for site in reversed(self.sites):
            if node >= self.offsets[site.name]:
                return site.name, node - self.offsets[site.name]
        raise IndexError(node)


@functools.lru_cache(maxsize=64)
def node_space(config: GPTConfig) -> NodeSpace:
    """The numbering for `config`; n_layer * (7 * d_model + d_mlp) + d_model nodes when d_in = d."""
    sites = node_sites(config)
    offsets: dict[str, int] = {}
    total = 0
    for site in sites:
        offsets[site.name] = total
        total += site.width
    return NodeSpace(config, sites, offsets, total)

"""Random node sets of the size and shape of a circuit."""

from __future__ import annotations

import numpy as np

from circuitd.circuits.nodes import NodeSpace


def of_equal_size(
    space: NodeSpace, kept: np.ndarray, among: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """As many nodes of each site as `kept` has, drawn from `among`; both and the result BOOL
    [n_nodes]. A site with too few to draw from gives all it has.
    """
    drawn = np.zeros_like(kept)
    for site in space.sites:
        span = space.span(site.name)
        candidates = np.flatnonzero(among[span])
        n = min(int(kept[span].sum()), len(candidates))
        drawn[span][rng.choice(candidates, n, replace=False)] = True
    return drawn

"""Cut edges as the sparse kernels take them: places in the network's matrices, and fills."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuitd.circuits.ablate import EdgeCut
from circuitd.circuits.nodes import node_space
from circuitd.engine.config import GPTConfig

#: Matrix number and first target row (in widths of v) of each kind of edge's target.
_MATRICES = {
    "attn.q": (0, 0),
    "attn.k": (0, 1),
    "attn.v": (0, 2),
    "attn.resid_delta": (1, 0),
    "mlp.post_act": (2, 0),
    "mlp.resid_delta": (3, 0),
}


def edge_places(
    config: GPTConfig, ablated: np.ndarray, cuts: Sequence[EdgeCut]
) -> tuple[np.ndarray, np.ndarray]:
    """Place int64 [n, 4] (layer, matrix, source, row) and fill [n] of each cut: whatever its code,
    its source's `ablated` [n_nodes]. Raises UnknownSite and InterventionError for no such node.
    """
    space = node_space(config)
    places, fills = np.empty((len(cuts), 4), np.int64), np.empty(len(cuts), np.float32)
    for i, cut in enumerate(cuts):
        matrix, part = _MATRICES[cut.target.partition(".")[2]]
        row = part * config.d_attn + cut.target_channel
        places[i] = layer_of(cut), matrix, cut.source_channel, row
        fills[i] = ablated[space.nodes(cut.source, [cut.source_channel])[0]]
    return places, fills


def layer_of(cut: EdgeCut) -> int:
    """The layer that an edge is in."""
    return int(cut.source.partition(".")[0])

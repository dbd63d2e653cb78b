"""Variants of a circuit on the sparse kernels: other gates, cut edges, from where they differ on.

The base's stream is kept at each layer's entry, so that a variant costs only the layers from its
first difference on, and in them only what its nodes take part in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.ablate import KEEP, RESAMPLE, EdgeCut, Mask
from circuitd.circuits.nodes import node_space
from circuitd.engine.sparse.execute import Blocks, SparseNetwork
from circuitd.engine.weights import Weights

#: Matrix number and first target row (in widths of v) of each kind of edge's target.
_MATRICES = {
    "attn.q": (0, 0),
    "attn.k": (0, 1),
    "attn.v": (0, 2),
    "attn.resid_delta": (1, 0),
    "mlp.post_act": (2, 0),
    "mlp.resid_delta": (3, 0),
}


class Variants:
    """Scores masks against `base` on fixed prompts. Ablated nodes, whatever their code, are at
    `ablated` [n_nodes]. Raises ValueError for a mask that resamples.
    """

    def __init__(
        self,
        network: SparseNetwork,
        weights: Weights,
        blocks: Blocks,
        ablated: Tensor,
        base: Mask,
    ) -> None:
        self._network, self._weights, self._blocks = network, weights, blocks
        self._space = node_space(weights.config)
        self._ablated = np.ascontiguousarray(ablated.numpy(), np.float32)
        self._base = base
        n_layer = weights.config.n_layer
        widths = [(n_layer if s.layer is None else s.layer, s.width) for s in self._space.sites]
        self._layer_of_node = np.concatenate([np.full(w, layer) for layer, w in widths])
        # Cuts of the base hold throughout, so its stream must have them as well.
        self._entries = network.entries(blocks, _gates(base), self._ablated, self._lay(base.cuts))

    def differences(self, mask: Mask) -> Tensor:
        """Right minus wrong answer's logit of each row [B] under `mask`."""
        found = self._network.variant(
            self._blocks,
            _gates(mask),
            self._ablated,
            self._entries,
            self._first_layer(mask),
            self._lay(mask.cuts),
        )
        return torch.from_numpy(found)

    def _first_layer(self, mask: Mask) -> int:
        """The first layer in which `mask` differs from the base, or the last layer."""
        differs = np.flatnonzero(mask.codes != self._base.codes)
        layers = [self._weights.config.n_layer - 1]
        layers += self._layer_of_node[differs[:1]].tolist()
        layers += [_layer(cut.source) for cut in set(mask.cuts) ^ set(self._base.cuts)]
        return min(layers)

    def _lay(self, cuts: Sequence[EdgeCut]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = np.empty((len(cuts), 4), np.int64)
        weights, fills = np.empty(len(cuts), np.float32), np.empty(len(cuts), np.float32)
        for i, cut in enumerate(cuts):
            layer, kind = _layer(cut.source), cut.target.partition(".")[2]
            matrix, part = _MATRICES[kind]
            row = part * self._weights.config.d_attn + cut.target_channel
            tensor = self._weights.layers[layer]
            owner = (tensor.c_attn, tensor.attn_proj, tensor.c_fc, tensor.mlp_proj)[matrix]
            places[i] = layer, matrix, cut.source_channel, row
            weights[i] = float(owner[row, cut.source_channel])
            node = self._space.nodes(cut.source, [cut.source_channel])[0]
            fills[i] = self._ablated[node]
        return places, weights, fills


def _gates(mask: Mask) -> np.ndarray:
    if (mask.codes == RESAMPLE).any():
        raise ValueError("gates have no value for what is resampled")
    return (mask.codes == KEEP).astype(np.float32)


def _layer(site: str) -> int:
    return int(site.partition(".")[0])

"""Variants of a circuit on the sparse kernels: some of its nodes ablated too, more edges cut.

The circuit is compiled, and a variant costs what it changes from the first half block on that it
changes. A circuit of so many nodes that compiling does not pay is run on all channels, each variant
from the first layer that it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.ablate import KEEP, RESAMPLE, Mask
from circuitd.circuits.edge_places import edge_places, layer_of
from circuitd.circuits.nodes import node_space
from circuitd.engine.config import GPTConfig
from circuitd.engine.sparse.compiled.circuit import CompiledCircuit, EdgePlaces, Variant
from circuitd.engine.sparse.compiled.prompts import LaidPrompts
from circuitd.engine.sparse.lanes.execute import Blocks, SparseNetwork
from circuitd.engine.steps import Steps


class Variants:
    """Scores masks against `base` on fixed prompts: compiled where the prompts are laid out for
    that, else on all channels.

    Ablated nodes, whatever their code, are at `ablated` [n_nodes]. Raises ValueError for masks that
    resample.
    """

    def __init__(
        self,
        network: SparseNetwork,
        config: GPTConfig,
        prompts: LaidPrompts | Blocks,
        ablated: Tensor,
        base: Mask,
    ) -> None:
        self._network, self._config = network, config
        self._prompts = prompts
        self._compiled: CompiledCircuit | None = None
        self._ablated = np.ascontiguousarray(ablated.numpy(), np.float32)
        self._base, self._kept = base, kept_by(base)
        self._has_started = False
        self._entries: Sequence[np.ndarray] | None = None

    @property
    def execution(self) -> str:
        """How masks are scored, for people."""
        return "sparse" if isinstance(self._prompts, Blocks) else "compiled circuit"

    def differences(self, masks: Sequence[Mask]) -> Iterator[Tensor | None]:
        """Right minus wrong answer's logit of each row [m, B] under the next m of `masks`; None
        between steps. Masks leave nothing unablated that the base ablates.
        """
        if not self._has_started:
            yield from self._start()
            self._has_started = True
        if self._compiled is not None:
            yield from self._of_circuit(self._compiled, masks)
        elif isinstance(self._prompts, Blocks):
            yield from self._on_all_channels(self._prompts, masks)

    def _start(self) -> Steps[None]:
        """Keep the base's streams, which have its cuts as well, since those hold throughout."""
        cuts, prompts = self._places(self._base), self._prompts
        if isinstance(prompts, Blocks):
            gates = self._kept.astype(np.float32)
            self._entries = yield from self._network.entries(prompts, gates, self._ablated, cuts)
            return
        self._compiled = yield from self._network.compiled(prompts, self._kept, self._ablated)
        yield from self._compiled.start_from(cuts)

    def _of_circuit(
        self, compiled: CompiledCircuit, masks: Sequence[Mask]
    ) -> Iterator[Tensor | None]:
        variants = [
            Variant(np.flatnonzero(self._kept & ~kept_by(mask)), self._places(mask))
            for mask in masks
        ]
        for found in compiled.variants(variants):
            yield None if found is None else torch.from_numpy(found)

    def _on_all_channels(self, blocks: Blocks, masks: Sequence[Mask]) -> Iterator[Tensor | None]:
        for mask in masks:
            found = yield from self._network.variant(
                blocks,
                kept_by(mask).astype(np.float32),
                self._ablated,
                self._entries,
                self._first_layer(mask),
                self._places(mask),
            )
            yield torch.from_numpy(found)[None]

    def _first_layer(self, mask: Mask) -> int:
        """The first layer in which `mask` differs from the base, or the last layer."""
        n_layer = self._config.n_layer
        sites = node_space(self._config).sites
        layer_of_node = np.repeat(
            [n_layer if site.layer is None else site.layer for site in sites],
            [site.width for site in sites],
        )
        layers = [n_layer - 1, *layer_of_node[mask.codes != self._base.codes][:1].tolist()]
        return min(layers + [layer_of(cut) for cut in set(mask.cuts) ^ set(self._base.cuts)])

    def _places(self, mask: Mask) -> EdgePlaces:
        return self._network.cuts(*edge_places(self._config, self._ablated, mask.cuts))


def kept_by(mask: Mask) -> np.ndarray:
    """BOOL [n_nodes]: what a mask leaves unablated. Raises ValueError if it resamples."""
    if (mask.codes == RESAMPLE).any():
        raise ValueError("a node has no one value where it is resampled")
    return mask.codes == KEEP

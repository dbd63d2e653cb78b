"""The layers of a circuit: how many nodes each half block keeps, and what it is worth."""

from dataclasses import dataclass
from typing import Final

from circuit_client.graph import Graph, place_of

#: A half block whose ablation adds more than this to the loss (nats) is marked.
IMPORTANT_DELTA: Final = 0.3


@dataclass(frozen=True, slots=True)
class HalfBlock:
    """One half block of which something is kept. `layer` None: after the last layer."""

    layer: int | None
    half: str
    n_nodes: int
    n_edges: int
    #: What ablating all its kept nodes adds to the circuit's loss, in nats; None: not measured.
    delta: float | None

    @property
    def name(self) -> str:
        """As a person says it."""
        if self.layer is None:
            return "after the last layer"
        return f"{self.layer}.{self.half}"

    @property
    def is_important(self) -> bool:
        """Whether it is worth more than `IMPORTANT_DELTA`."""
        return self.delta is not None and self.delta > IMPORTANT_DELTA


def half_blocks(graph: Graph) -> list[HalfBlock]:
    """The half blocks of which nodes are kept, in the order of the pass."""
    counts: dict[tuple[int | None, str], list[int]] = {}
    block_of: list[tuple[int | None, str]] = []
    for node in graph.nodes:
        place = place_of(node.site)
        block = place.layer, place.half
        block_of.append(block)
        counts.setdefault(block, [0, 0])[0] += 1
    for edge in graph.edges:
        counts[block_of[edge.target]][1] += 1
    return [
        HalfBlock(
            layer,
            half,
            n_nodes,
            n_edges,
            None if layer is None else graph.layer_deltas.get((layer, half)),
        )
        for (layer, half), (n_nodes, n_edges) in counts.items()
    ]

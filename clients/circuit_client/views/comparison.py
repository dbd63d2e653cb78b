"""Two circuits side by side: what each keeps, what both keep, and how much each node is worth.

Of one model they are compared node by node; of two models site by site, since channels of the same
number mean different things.
"""

from dataclasses import dataclass
from typing import Literal

from circuit_client.graph import Graph, place_of

Where = Literal["left", "right", "both"]


@dataclass(frozen=True, slots=True)
class ComparedNode:
    """A node of either circuit, with its ablation deltas in nats where it is kept and measured."""

    site: str
    channel: int
    where: Where
    left: float | None
    right: float | None

    @property
    def change(self) -> float | None:
        """How much more it is worth in the right circuit; a node that is not kept is worth 0."""
        if (self.left is None and self.where != "right") or (
            self.right is None and self.where != "left"
        ):
            return None
        return (self.right or 0.0) - (self.left or 0.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Nodes of either circuit, the largest changes first, and how much they share."""

    nodes: tuple[ComparedNode, ...]
    #: Shared nodes over all nodes of either; None where the models differ.
    jaccard: float | None
    n_left_only: int
    n_right_only: int
    n_both: int


def compare(left: Graph, right: Graph, *, one_model: bool) -> Comparison:
    """Compare two circuits; without `one_model` nodes are not matched."""
    if not one_model:
        return Comparison((), None, len(left.nodes), len(right.nodes), 0)
    nodes: list[ComparedNode] = []
    for key in {**left.index, **right.index}:
        i, j = left.index.get(key), right.index.get(key)
        where: Where = (
            "both" if i is not None and j is not None else "left" if j is None else "right"
        )
        nodes.append(
            ComparedNode(
                *key,
                where,
                None if i is None else left.nodes[i].delta,
                None if j is None else right.nodes[j].delta,
            )
        )
    nodes.sort(key=lambda n: (-abs(n.change or 0.0), place_of(n.site).order, n.channel))
    count = {w: sum(n.where == w for n in nodes) for w in ("left", "right", "both")}
    return Comparison(
        tuple(nodes),
        count["both"] / len(nodes) if nodes else 1.0,
        count["left"],
        count["right"],
        count["both"],
    )

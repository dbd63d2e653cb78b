"""The ego graph of a node: what feeds it and what it feeds, across layers.

Two kinds of links lead on: weights, which are the circuit's edges, and residual channels, which
carry what one node writes to those that read it later. They are followed `reach` links each way.
"""

from dataclasses import dataclass
from typing import Final

from circuit_client.graph import Graph
from circuit_client.views.parts import part_of

#: Nodes on one side beyond which an ego graph is cut: it would show everything.
_SIDE_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Ego:
    """The nodes around one: `graph` has them, `steps` how many links each is away (before: less
    than zero), `carried` the links of the residual stream.
    """

    graph: Graph
    center: int
    steps: tuple[int, ...]
    carried: tuple[tuple[int, int], ...]
    #: Whether nodes were left out because there are too many.
    is_cut: bool = False


def ego_graph(graph: Graph, center: int, *, reach: int = 3) -> Ego:
    """The neighbourhood of node number `center`."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for a, b in [*((e.source, e.target) for e in graph.edges), *graph.carried]:
        before.setdefault(b, []).append(a)
        after.setdefault(a, []).append(b)
    step: dict[int, int] = {center: 0}
    is_cut = False
    for links, sign in ((before, -1), (after, 1)):
        front = [center]
        n = 0
        for distance in range(1, reach + 1):
            reached = {j for i in front for j in links.get(i, ())} - step.keys()
            nearest = sorted(reached, key=lambda i: (-abs(graph.nodes[i].delta or 0.0), i))
            if n + len(nearest) > _SIDE_MAX:
                nearest, is_cut = nearest[: _SIDE_MAX - n], True
            n += len(nearest)
            step |= dict.fromkeys(nearest, sign * distance)
            front = nearest
    kept = sorted(step)
    at = {old: new for new, old in enumerate(kept)}
    carried = tuple((at[a], at[b]) for a, b in graph.carried if a in at and b in at)
    return Ego(part_of(graph, kept), at[center], tuple(step[i] for i in kept), carried, is_cut)


@dataclass(frozen=True, slots=True)
class Link:
    """One step along an ego graph, as a list shows it."""

    node: str
    #: Links away from the node in the middle; before it: less than zero.
    step: int
    #: "weight" with its value, or "residual" with the channel that carries.
    by: str
    weight: float | None
    #: In nats: what cutting the edge adds to the loss; along the residual stream, which is no edge,
    #: what ablating `node` adds. None: not measured.
    delta: float | None


def nearest_links(graph: Graph, center: int) -> list[Link]:
    """What directly feeds a node and what it directly feeds, the strongest first on each side."""
    links: list[tuple[tuple[float, float], Link]] = []
    for e in graph.edges:
        if center in (e.source, e.target):
            other, step = (e.source, -1) if e.target == center else (e.target, 1)
            name = graph.nodes[other].name
            links.append((e.strength, Link(name, step, "weight", e.weight, e.delta)))
    for a, b in graph.carried:
        if center in (a, b):
            other, step = (a, -1) if b == center else (b, 1)
            node = graph.nodes[other]
            by = f"residual {node.channel}"
            strength = (abs(node.delta or 0.0), 0.0)
            links.append((strength, Link(node.name, step, by, None, node.delta)))
    links.sort(key=lambda pair: (pair[1].step, [-s for s in pair[0]]))
    return [link for _, link in links]

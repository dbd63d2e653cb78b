"""The facts of one node of a circuit: where it is, what it is worth, what it is joined to."""

from dataclasses import dataclass

from circuit_client.graph import Graph, place_of
from circuit_client.views.ego import Link, nearest_links


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A kept node. Losses in nats; what is None is not known."""

    site: str
    channel: int
    layer: int | None
    kind: str
    head: int | None
    within: int
    delta: float | None
    in_degree: int
    out_degree: int
    #: What feeds it and what it feeds, through weights and through the residual stream.
    links: tuple[Link, ...]

    @property
    def inputs(self) -> tuple[Link, ...]:
        """What feeds it, the strongest first."""
        return tuple(link for link in self.links if link.step < 0)

    @property
    def outputs(self) -> tuple[Link, ...]:
        """What it feeds, the strongest first."""
        return tuple(link for link in self.links if link.step > 0)

    @property
    def name(self) -> str:
        """In the notation of nodes."""
        return f"{self.site}[{self.channel}]"


def node_facts(graph: Graph, index: int) -> NodeFacts:
    """The facts of node number `index`."""
    node, place = graph.nodes[index], place_of(graph.nodes[index].site)
    return NodeFacts(
        site=node.site,
        channel=node.channel,
        layer=place.layer,
        kind=place.kind,
        head=node.head,
        within=node.within,
        delta=node.delta,
        in_degree=graph.degrees[index][0],
        out_degree=graph.degrees[index][1],
        links=tuple(nearest_links(graph, index)),
    )

"""The circuit that is looked at, as far as it has arrived: its parts, its graph, its model."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from circuit_client.graph import Graph, graph_of
from circuit_client.switching import HalfId, HeadId, NodeId, Part, Switched, off_nodes
from circuit_client.views.layers import HalfBlock, half_blocks
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.replies import ModelDescription
from circuit_protocol.session import SelectedNode

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Loaded:
    """A circuit with what its model says of heads and layers (None: the model is not here)."""

    shown: CircuitShown
    model: ModelDescription | None = None
    #: Why the model is not here, if it will not come.
    absent: str = ""

    @cached_property
    def d_head(self) -> int | None:
        """Channels per head."""
        sites = () if self.model is None else self.model.sites
        return next(
            (s.width // s.n_heads for s in sites if s.site.endswith("attn.q") and s.n_heads), None
        )

    @cached_property
    def n_layer(self) -> int | None:
        """Layers of the model."""
        if self.model is None:
            return None
        layers = [int(s.site.partition(".")[0]) for s in self.model.sites if s.site[0].isdigit()]
        return max(layers, default=-1) + 1

    @cached_property
    def graph(self) -> Graph:
        """Nodes and edges."""
        return graph_of(self.shown, d_head=self.d_head)

    @cached_property
    def blocks(self) -> list[HalfBlock]:
        """The half blocks of which something is kept."""
        return half_blocks(self.graph)

    @property
    def id(self) -> str:
        """The circuit's id."""
        return self.shown.summary.id

    @property
    def is_measured(self) -> bool:
        """Whether the deltas of its parts are known."""
        return self.shown.details is not None

    def index_of(self, node: SelectedNode | None) -> int | None:
        """Index of a node in the graph; None if the circuit does not keep it."""
        return None if node is None else self.graph.index.get((node.site, node.channel))

    def check_node(self, node: NodeId) -> None:
        """Raises NotFound or InvalidRequest, unless the model has this node and the circuit not."""
        if node in {NodeId(n.site, n.channel) for n in self.graph.nodes}:
            raise InvalidRequest(
                "the circuit keeps this node already",
                asked=describe_parts([node]),
                hint="Select it and press space to switch it off and on",
            )
        widths = {s.site: s.width for s in self.model.sites} if self.model else {}
        if widths and node.site not in widths:
            raise NotFound.unknown("site", node.site, tuple(widths))
        if widths and not 0 <= node.channel < widths[node.site]:
            raise NotFound(
                "this site has no such channel",
                asked=describe_parts([node]),
                hint=f"{node.site} has channels 0 to {widths[node.site] - 1}",
            )

    def off(self, switched: Switched) -> frozenset[int]:
        """Indices of the nodes that are off."""
        found = off_nodes(switched, self.shown.circuit.nodes, self.d_head)
        return frozenset(self.graph.index[n.site, n.channel] for n in found)

    def head_of(self, index: int) -> HeadId | None:
        """The head that a node belongs to."""
        node = self.graph.nodes[index]
        layer = node.site.partition(".")[0]
        return None if node.head is None else HeadId(int(layer), node.head)

    def half_of(self, index: int) -> HalfId | None:
        """The half block that a node belongs to."""
        layer, _, kind = self.graph.nodes[index].site.partition(".")
        if not layer.isdigit():
            return None
        return HalfId(int(layer), "attn" if kind.startswith("attn") else "mlp")

    def with_model(self, model: ModelDescription) -> "Loaded":
        """The same with what its model says."""
        return replace(self, model=model, absent="")

    def without_model(self, why: str) -> "Loaded":
        """The same, its model not being here."""
        return replace(self, model=None, absent=why)


def node_id(loaded: Loaded, index: int) -> NodeId:
    """A node of the graph as a part that can be switched."""
    node = loaded.graph.nodes[index]
    return NodeId(node.site, node.channel)


def describe_parts(parts: "Iterable[Part]") -> str:
    """Parts in words, for the bar and for messages."""
    words: list[str] = []
    for part in sorted(parts, key=repr):
        match part:
            case NodeId(site=site, channel=channel):
                words.append(f"{site}[{channel}]")
            case HeadId(layer=layer, head=head):
                words.append(f"head {layer}.{head}")
            case HalfId(layer=layer, half=half):
                words.append(f"all of {layer}.{half}")
            case _:
                words.append(f"{_short(part.source)}→{_short(part.target)}")
    return ", ".join(words)


def describe_switched(switched: Switched) -> str:
    """What is switched in words; nothing if nothing is."""
    words: list[str] = []
    if switched.off:
        kind = f" (at {switched.kind})" if switched.kind else ""
        words.append(f"off: {describe_parts(switched.off)}{kind}")
    if switched.added:
        words.append(f"added: {describe_parts(switched.added)}")
    return "   ".join(words)


def _short(node: NodeId) -> str:
    return f"{node.site}[{node.channel}]"

"""Which nodes of a circuit a picture shows, and back: from a node of a picture to the circuit's."""

from collections.abc import Collection

from circuit_client.graph import Graph as CircuitGraph
from circuit_client.graph import place_of
from circuit_client.render.heat import Scale, number, scale_for
from circuit_client.views.ego import Ego, ego_graph
from circuit_client.views.parts import in_half, part_of
from circuit_protocol.session import SelectedNode
from circuit_tui.canvas.graph import EMPTY, Graph
from circuit_tui.loaded import Loaded
from circuit_tui.paint.look import Look
from circuit_tui.pictures import ego_picture, picture_of, scales_of

_NO_SCALE = Scale("diverging", 0.0, "nats")


class PictureSource:
    """Pictures of one circuit, and which of its nodes are in them."""

    nothing: Graph = EMPTY

    def __init__(self) -> None:
        self._loaded: Loaded | None = None
        #: By picture: its part of the circuit, and the circuit's index of each of its nodes.
        self._parts: dict[str, tuple[CircuitGraph, list[int]]] = {}
        self.node_scale = self.edge_scale = self.block_scale = _NO_SCALE

    def follow(self, loaded: Loaded | None) -> None:
        """Pictures of another circuit from now on."""
        self._loaded, self._parts = loaded, {}
        if loaded is None:
            return
        self.node_scale, self.edge_scale = scales_of(loaded.graph)
        deltas = [b.delta for b in loaded.blocks if b.delta is not None]
        self.block_scale = scale_for(deltas, "diverging", "nats")

    def half(
        self,
        block: str | None,
        off: Collection[int],
        cut: Collection[tuple[int, int]],
        edges_from: float,
        node: SelectedNode | None,
        look: Look,
    ) -> tuple[Graph, int | None]:
        """The graph of a half block, and which of its nodes is selected."""
        if self._loaded is None or block is None:
            return EMPTY, None
        layer, _, half = block.partition(".")
        graph = self._loaded.graph
        indices = sorted(in_half(graph, int(layer) if layer else None, half))
        part = part_of(graph, indices, edges_from=edges_from)
        self._parts["graph"] = part, indices
        at = {old: new for new, old in enumerate(indices)}
        picture = picture_of(
            part,
            scales=(self.node_scale, self.edge_scale),
            off={at[i] for i in off if i in at},
            cut={(at[a], at[b]) for a, b in cut if a in at and b in at},
            look=look,
        )
        return picture, self.shown_index(node)

    def ego(
        self, node: SelectedNode | None, off: Collection[int], look: Look
    ) -> tuple[Graph, int | None, bool]:
        """The ego graph of a node, where that node is in it, and whether others were left out."""
        index = None if self._loaded is None else self._loaded.index_of(node)
        if self._loaded is None or index is None:
            return EMPTY, None, False
        graph = self._loaded.graph
        ego: Ego = ego_graph(graph, index)
        indices = [graph.index[n.site, n.channel] for n in ego.graph.nodes]
        self._parts["ego"] = ego.graph, indices
        at = {old: new for new, old in enumerate(indices)}
        picture = ego_picture(
            ego,
            scales=(self.node_scale, self.edge_scale),
            off={at[i] for i in off if i in at},
            look=look,
        )
        return picture, ego.center, ego.is_cut

    def shown_index(self, node: SelectedNode | None) -> int | None:
        """Where a node of the circuit is in the picture of the half block."""
        if node is None or "graph" not in self._parts:
            return None
        return self._parts["graph"][0].index.get((node.site, node.channel))

    def circuit_index(self, picture: str, node: int) -> int | None:
        """The circuit's index of a picture's node."""
        part = self._parts.get(picture)
        return part[1][node] if part is not None and node < len(part[1]) else None

    def block_of(self, index: int) -> str:
        """The half block of a node of the circuit."""
        assert self._loaded is not None  # it has this node
        place = place_of(self._loaded.graph.nodes[index].site)
        return f"{'' if place.layer is None else place.layer}.{place.half}"

    def words(self, picture: str, node: int | None, edge: int | None) -> str:
        """A node or an edge of a picture in words, with its values."""
        part = self._parts.get(picture)
        if part is None:
            return ""
        graph = part[0]
        if node is not None and node < len(graph.nodes):
            found = graph.nodes[node]
            worth = "" if found.delta is None else f"  {found.delta:+z.3f} nats"
            return f"{found.name}{worth}"
        if edge is None:
            return ""
        # Pictures draw what the residual stream carries first, then edges, the weakest first.
        edges = sorted(graph.edges, key=lambda e: e.strength)
        n_before = len(graph.carried) if picture == "ego" else 0
        if not 0 <= edge - n_before < len(edges):
            return "carried by the residual stream"
        e = edges[edge - n_before]
        cost = "" if e.delta is None else f", {e.delta:+z.3f} nats when cut"
        ends = f"{graph.nodes[e.source].name} → {graph.nodes[e.target].name}"
        return f"{ends}  weight {number(e.weight)}{cost}"

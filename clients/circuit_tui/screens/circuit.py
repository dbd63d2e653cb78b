"""The circuit: its layers, a picture of it in four kinds, the selected node, and what breaks."""

from typing import Any, ClassVar, Final, Literal

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher

from circuit_client.graph import strongest_first
from circuit_client.switching import EdgeId, NodeId, Part
from circuit_client.verbs.circuits import measure
from circuit_client.views.edges import edge_rows
from circuit_client.views.node import node_facts
from circuit_protocol.session import SelectedNode
from circuit_tui.effect import Effect
from circuit_tui.keys import bindings
from circuit_tui.loaded import Loaded, describe_switched
from circuit_tui.screens.circuit_picture import PictureSource
from circuit_tui.screens.matrix_pane import MatrixPane
from circuit_tui.screens.operating import Operating
from circuit_tui.state import Scene, Select
from circuit_tui.views.circuit import (
    EDGE_COLUMNS,
    LAYER_COLUMNS,
    LINK_COLUMNS,
    block_key,
    edge_table,
    fact_lines,
    headline,
    layer_rows,
    link_rows,
    missing_line,
)
from circuit_tui.views.table import as_text
from circuit_tui.widgets.effect_view import EffectView, score_line, what_colours_mean
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.picture import Picture
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.site_matrix import MatrixView

View = Literal["matrix", "graph", "edges", "ego"]
_THRESHOLDS: Final = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_TITLES: Final[dict[View, str]] = {
    "matrix": "whole circuit",
    "graph": "graph",
    "edges": "edges",
    "ego": "around the node",
}


class CircuitPage(Operating):
    """Read a circuit, and operate on it."""

    PLACE = "circuit"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "At the left are the half blocks of which the circuit keeps nodes, with what ablating all "
        "of them adds to the loss; those worth more than 0.3 nats are marked. Beside them stands a "
        "picture: m the whole circuit, g the graph of one half block, e its edges, o what feeds "
        "the selected node and what it feeds. Colour is what a node or an edge is worth: orange "
        "hurts when it goes, blue helps. Space switches the selected node off and on again; below "
        "you see at once what that does to loss, accuracy and both answers."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("circuit"))
    PANES: ClassVar[dict[str, str]] = {
        "layers-pane": "layers",
        "picture-pane": "picture",
        "node-pane": "node",
        "effect-pane": "effect",
    }
    DEFAULT_CSS = """
    CircuitPage #side { width: 40; }
    CircuitPage #layers-pane { height: auto; max-height: 45%; }
    CircuitPage #layers-pane Rows { height: auto; max-height: 100%; }
    CircuitPage #effect-pane { height: 9; }
    CircuitPage.-vast #effect-pane { height: 11; }
    CircuitPage.-narrow #side, CircuitPage.-narrow #main { width: 1fr; }
    CircuitPage.-narrow Pane { height: 1fr; max-height: 100%; }
    CircuitPage ContentSwitcher { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._view: View = "matrix"
        self._block: str | None = None
        self._threshold = 0
        self._picture = PictureSource()

    def compose_page(self) -> ComposeResult:
        """Layers and the node at the left, picture and effect at the right."""
        look = self.circuit_app.look
        yield Lines(look=look, height=1, id="headline")
        yield PaneTabs(self.PANES)
        with Horizontal():
            with Vertical(id="side"):
                yield Pane("layers", Rows(LAYER_COLUMNS, empty="no circuit yet", id="layers"),
                           id="layers-pane")  # fmt: skip
                yield Pane(
                    "node",
                    Lines(look=look, height=4, id="facts"),
                    Rows(LINK_COLUMNS, empty="select a node in a picture or a table", id="links"),
                    id="node-pane",
                )
            with Vertical(id="main"):
                views = ContentSwitcher(
                    MatrixPane(look=look, id="matrix"),
                    self._canvas("graph"),
                    Rows(EDGE_COLUMNS, empty="no edge costs so much", id="edges"),
                    self._canvas("ego"),
                    initial="matrix",
                    id="views",
                )
                yield Pane("whole circuit", views, id="picture-pane")
                yield Pane("effect", EffectView(look=look, id="effect"), id="effect-pane")

    def _canvas(self, id: str) -> Picture:
        canvas = Picture(look=self.circuit_app.look, id=id)
        canvas.add_class("painted")
        return canvas

    def on_mount(self) -> None:
        """Begin at the picture."""
        super().on_mount()
        self.show_pane("picture-pane")

    # --------------------------------------------------------------------------------- listening

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another circuit."""
        self._picture.follow(loaded)
        if loaded is not None and loaded.graph.nodes and self._index() is None:
            self._select(strongest_first(loaded.graph, range(len(loaded.graph.nodes)))[0])
        self._fill_layers()
        self._fill_picture(keep_view=False)
        self._fill_node()
        self._fill_headline()

    def on_resize(self, event: events.Resize) -> None:
        """What is told in the headline depends on the room there is."""
        super().on_resize(event)
        if self.is_ready:
            self._fill_headline()

    def _fill_headline(self) -> None:
        """The circuit in a line; on narrow pages its effect, while something is switched."""
        app, line = self.circuit_app, self.query_one("#headline", Lines)
        switched = self.scene.switched
        if self.loaded is None:
            line.show([missing_line(self.scene.circuit is not None, app.load_error)])
        elif self.has_class("-narrow") and not switched.is_nothing:
            said = describe_switched(switched)
            line.show([score_line(app.measuring.effect, app.look, said)])
        else:
            line.show([headline(self.loaded)])

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another node or other switches."""
        if before is None or self.loaded is None:
            return
        if before.switched != after.switched:
            self._fill_layers()
            self._fill_picture(keep_view=True)
            self._fill_node()
        elif before.node != after.node:
            if self._view == "ego":
                self._fill_picture(keep_view=False)
            elif self._view == "graph":
                self._point_in_graph()
            elif self._view == "matrix":
                self.query_one(MatrixPane).point_at(self._index())
            self._fill_node()

    def show_effect(self, effect: Effect) -> None:
        """What is switched does something else."""
        app = self.circuit_app
        said = describe_switched(self.scene.switched)
        self.query_one(EffectView).show(effect, app.names, switched=said)
        self.query_one("#effect-pane", Pane).note(what_colours_mean(effect))
        self._fill_headline()

    # ------------------------------------------------------------------------------------ filling

    def _fill_layers(self) -> None:
        loaded, table = self.loaded, self.query_one("#layers", Rows)
        if loaded is None:
            table.fill([], empty="no circuit yet")
            return
        off = loaded.off(self.scene.switched)
        scale = self._picture.block_scale
        table.fill(
            layer_rows(loaded.blocks, loaded.graph, off, scale), empty="the circuit is empty"
        )
        row = table.current
        self._block = row.key if row else None

    def _fill_picture(self, *, keep_view: bool) -> None:
        loaded = self.loaded
        pane = self.query_one("#picture-pane", Pane)
        title = _TITLES[self._view]
        limit = _THRESHOLDS[self._threshold]
        note = "" if not limit else f"edges that cost {limit:g} nats or more"
        if loaded is None:
            pane.retitle(title, "")
            for canvas in self.query(Picture):
                canvas.show(self._picture.nothing)
            self.query_one("#edges", Rows).fill([])
            return
        off = loaded.off(self.scene.switched)
        match self._view:
            case "matrix":
                matrix, scale = self.query_one(MatrixPane), self._picture.node_scale
                matrix.show(loaded, off, scale, self._index())
                note = "kept nodes; colour: the most that one of them is worth"
            case "edges":
                cut = self._cut_edges()
                rows = edge_rows(loaded.graph, edges_from=limit)
                table = edge_table(rows, cut, self._picture.edge_scale)
                self.query_one("#edges", Rows).fill(table)
            case "graph":
                picture, selected = self._picture.half(
                    self._block,
                    off,
                    self._cut_ends(),
                    limit,
                    self.scene.node,
                    self.circuit_app.look,
                )
                self.query_one("#graph", Picture).show(
                    picture, selected=selected, keep_view=keep_view
                )
                title = f"graph of {self._block}" if self._block else title
            case "ego":
                picture, selected, is_cut = self._picture.ego(
                    self.scene.node, off, self.circuit_app.look
                )
                self.query_one("#ego", Picture).show(
                    picture, selected=selected, keep_view=keep_view
                )
                note = "the strongest only" if is_cut else ""
                if self.scene.node is None or selected is None:
                    note = "select a node first"
        pane.retitle(title, note)

    def _point_in_graph(self) -> None:
        canvas = self.query_one("#graph", Picture)
        index = self._picture.shown_index(self.scene.node)
        if index is not None and index != canvas.selected:
            canvas.select(index)

    def _fill_node(self) -> None:
        loaded, index = self.loaded, self._index()
        facts, links = self.query_one("#facts", Lines), self.query_one("#links", Rows)
        if loaded is None or index is None:
            facts.show([])
            links.fill([])
            return
        found = node_facts(loaded.graph, index)
        is_off = index in loaded.off(self.scene.switched)
        facts.show(fact_lines(found, self._picture.node_scale, is_off=is_off))
        links.fill(link_rows(found), empty="joined to nothing")

    def _cut_edges(self) -> set[int]:
        cut = {p for p in self.scene.switched.off if isinstance(p, EdgeId)}
        return set() if not cut or self.loaded is None else {
            i for i in range(len(self.loaded.graph.edges)) if self._edge_id(i) in cut
        }  # fmt: skip

    def _cut_ends(self) -> set[tuple[int, int]]:
        graph = self.loaded.graph if self.loaded else None
        if graph is None:
            return set()
        return {(graph.edges[i].source, graph.edges[i].target) for i in self._cut_edges()}

    def _edge_id(self, index: int) -> EdgeId:
        assert self.loaded is not None  # it has this edge
        graph = self.loaded.graph
        a, b = graph.nodes[graph.edges[index].source], graph.nodes[graph.edges[index].target]
        return EdgeId(NodeId(a.site, a.channel), NodeId(b.site, b.channel))

    # ------------------------------------------------------------------------------------- acting

    def parts_here(self) -> tuple[Part, ...]:
        """In the table of edges: the edge under the cursor; in the list of layers: the block."""
        self._rest()
        edges = self.query_one("#edges", Rows)
        if edges.has_focus and edges.current is not None:
            return (self._edge_id(int(edges.current.key)),)
        return super().parts_here()

    def action_show_view(self, view: View) -> None:
        """Another kind of picture."""
        self._rest()
        self._view = view
        self.query_one("#views", ContentSwitcher).current = view
        self._fill_picture(keep_view=False)
        self.show_pane("picture-pane")

    def action_threshold(self, by: int) -> None:
        """Fewer or more edges."""
        self._threshold = max(0, min(len(_THRESHOLDS) - 1, self._threshold + by))
        if self._view == "matrix":
            self.action_show_view("graph")
        self._fill_picture(keep_view=True)

    def action_measure_parts(self) -> None:
        """Measure deltas of nodes, edges and half blocks."""
        if self.loaded is not None:
            app = self.circuit_app
            model = self.loaded.model
            self.ask(
                "measure", measure(self.loaded.shown),
                lambda shown: app.take_loaded(Loaded(shown, model)), what="measuring its parts",
            )  # fmt: skip

    def action_open_node(self) -> None:
        """On to the node's page."""
        self._rest()
        if self.scene.node is not None:
            self.circuit_app.action_go("node")

    @on(Rows.Moved, "#layers")
    def look_at_block(self, message: Rows.Moved) -> None:
        """The graph follows the list."""
        self._block = message.row.key
        if self._view == "graph":
            self._fill_picture(keep_view=False)

    @on(Rows.Chosen, "#layers")
    def open_block(self, message: Rows.Chosen) -> None:
        """Its graph."""
        self._block = message.row.key
        self.action_show_view("graph")

    @on(MatrixView.Chosen)
    def open_site(self, message: MatrixView.Chosen) -> None:
        """The graph of its half block, its strongest node selected."""
        if self.loaded is None:
            return
        graph = self.loaded.graph
        nodes = graph.by_site[message.cell.site]
        strongest = max(nodes, key=lambda i: abs(graph.nodes[i].delta or 0.0))
        block = next(
            b for b in self.loaded.blocks if block_key(b) == self._picture.block_of(strongest)
        )
        self._block = block_key(block)
        self.query_one("#layers", Rows).point_at(self._block)
        self._select(strongest)
        self.action_show_view("graph")

    @on(MatrixPane.Selected)
    def look_at_node(self, message: MatrixPane.Selected) -> None:
        """It is the selected one; what is around it, if it was chosen."""
        self._select_named(message.name)
        if isinstance(message, MatrixPane.Opened):
            self.action_show_view("ego")

    @on(Picture.Picked)
    def pick(self, message: Picture.Picked) -> None:
        """A node was stepped to or clicked; a second click opens it."""
        if message.node is None:
            return
        index = self._picture.circuit_index(message.canvas.id or "", message.node)
        if index is None or self.loaded is None:
            return
        if index == self._index() and message.canvas.id == "ego":
            return
        self._select(index)

    @on(Picture.Hovered)
    def hover(self, message: Picture.Hovered) -> None:
        """Values of what the mouse is on."""
        text = self._picture.words(message.canvas.id or "", message.node, message.edge)
        self.query_one("#picture-pane", Pane).note(text)

    @on(Rows.Moved, "#edges")
    def look_at_edge(self, message: Rows.Moved) -> None:
        """Its target is the selected node."""
        if self.loaded is not None:
            self._select(self.loaded.graph.edges[int(message.row.key)].target)

    @on(Rows.Chosen, "#edges")
    def open_edge(self) -> None:
        """What is around its target."""
        self.action_show_view("ego")

    @on(Rows.Chosen, "#links")
    def follow_link(self, message: Rows.Chosen) -> None:
        """On to the node at the other end."""
        self._select_named(message.row.cells[1].text)

    def _rest(self) -> None:
        """Keys act on what the cursor is at, rested or not."""
        if (name := self.query_one(MatrixPane).rest()) is not None:
            self._select_named(name)
        for picture in self.query(Picture):
            if (node := picture.rest()) is not None:
                index = self._picture.circuit_index(picture.id or "", node)
                if index is not None:
                    self._select(index)

    def _select_named(self, name: str) -> None:
        nodes = self.loaded.graph.nodes if self.loaded else ()
        index = next((i for i, n in enumerate(nodes) if n.name == name), None)
        if index is not None:
            self._select(index)

    def _select(self, index: int) -> None:
        if self.loaded is not None:
            node = self.loaded.graph.nodes[index]
            self.do(Select(SelectedNode(site=node.site, channel=node.channel)))

    # ------------------------------------------------------------------------------------ sharing

    def place_name(self) -> str:
        """The circuit's place."""
        if self.loaded is None:
            return (self.scene.circuit or "")[:8]
        return f"{self.loaded.shown.summary.sweep}/{self.loaded.shown.summary.label}"

    def plain_text(self) -> str:
        """Layers, the node, and the edges."""
        layers = as_text(LAYER_COLUMNS, self.query_one("#layers", Rows).rows)
        facts = self.query_one("#facts", Lines).text
        links = as_text(LINK_COLUMNS, self.query_one("#links", Rows).rows)
        return "\n\n".join(part for part in (layers, facts, links) if part.strip())

    def as_json(self) -> Any:
        """The circuit as it was shown by the daemon."""
        return None if self.loaded is None else self.loaded.shown

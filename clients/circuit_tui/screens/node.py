"""One node: its facts, and where it is active on pretraining text and on the task's prompts."""

from typing import Any, ClassVar, Final, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import ContentSwitcher

from circuit_client.circuit_answers import NodeActivity
from circuit_client.notation import format_nodes
from circuit_client.render.heat import number
from circuit_client.switching import NodeId, node_set
from circuit_client.verbs.circuits import samples
from circuit_client.views.node import node_facts
from circuit_protocol.errors import CircuitError
from circuit_protocol.session import SelectedNode
from circuit_tui.effect import Effect
from circuit_tui.keys import bindings
from circuit_tui.loaded import Loaded, describe_switched
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.pictures import scales_of
from circuit_tui.screens.operating import Operating
from circuit_tui.state import Scene, Select
from circuit_tui.views.circuit import LINK_COLUMNS, fact_lines, link_rows
from circuit_tui.views.passages import (
    SHOWN,
    Passage,
    attention_passages,
    band_passages,
    distribution_lines,
    scale_of,
    task_passages,
    token_ids,
)
from circuit_tui.views.table import Cell
from circuit_tui.widgets.effect_view import score_line
from circuit_tui.widgets.legend import HeatLegend
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.passages import Passages
from circuit_tui.widgets.rows import Rows

Kind = Literal["task", "text", "attention", "distribution"]
_TITLES: Final[dict[Kind, str]] = {
    "task": "on the task",
    "text": "on pretraining text",
    "attention": "attention of its head",
    "distribution": "distribution",
}
_PARTNERS: Final = {"q": "k", "k": "q"}
_N_PAIRS: Final = 12
_N_ATTENTION_PAIRS: Final = 6


class NodePage(Operating):
    """Read a node."""

    PLACE = "node"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "One channel of one site. At the left stands what it is worth, and what feeds it and what "
        "it feeds; enter follows a link. At the right stand texts: each token on the colour of the "
        "node's value there, the strongest one framed. t: the task's prompts; x: pretraining text "
        "around its largest and smallest values; a: where its head attends (v: this channel's "
        "share of it); d: how its values are distributed. Space switches it off and on."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("node"))
    PANES: ClassVar[dict[str, str]] = {"node-pane": "node", "texts-pane": "texts"}
    DEFAULT_CSS = """
    NodePage #node-pane { width: 46; }
    NodePage.-narrow #node-pane { width: 1fr; }
    NodePage ContentSwitcher { height: 1fr; }
    NodePage #links { margin-top: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._kind: Kind = "task"
        self._which_class = 0
        self._zero_centred = True
        self._in_circuit = True
        self._share = False
        self._back = 0
        self._activity: NodeActivity | None = None
        self._partner: NodeActivity | None = None
        self._asked: tuple[Any, ...] | None = None

    def compose_page(self) -> ComposeResult:
        """Facts at the left, texts at the right."""
        look = self.circuit_app.look
        yield Lines(look=look, height=1, id="score")
        yield PaneTabs(self.PANES)
        with Horizontal():
            yield Pane(
                "node",
                Lines(look=look, height=4, id="facts"),
                Rows(LINK_COLUMNS, empty="joined to nothing in this circuit", id="links"),
                id="node-pane",
            )
            legend = HeatLegend(look=look, id="legend")
            legend.add_class("painted")
            yield Pane(
                "texts",
                legend,
                ContentSwitcher(
                    Passages(look=look, id="passages"),
                    VerticalScroll(Lines(look=look, height=30, id="histogram"), id="distribution"),
                    initial="passages",
                    id="kinds",
                ),
                id="texts-pane",
            )

    def on_mount(self) -> None:
        """Begin at the texts."""
        super().on_mount()
        self.show_pane("texts-pane")

    # --------------------------------------------------------------------------------- listening

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another circuit: the node means something else in it."""
        self._fill_facts()
        self._ask_activity()

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another node, or switched."""
        if before is None or before.node != after.node:
            self._ask_activity()
        self._fill_facts()

    def show_effect(self, effect: Effect) -> None:
        """One line of it."""
        said = describe_switched(self.scene.switched)
        line = score_line(effect, self.circuit_app.look, said)
        self.query_one("#score", Lines).show([line])

    def _fill_facts(self) -> None:
        loaded, index, node = self.loaded, self._index(), self.scene.node
        facts, links = self.query_one("#facts", Lines), self.query_one("#links", Rows)
        if loaded is None or index is None:
            text = "no node is selected" if node is None else f"{node.site}[{node.channel}]"
            note = "" if node is None else "not in the circuit: A adds it"
            if node is not None and NodeId(node.site, node.channel) in self.scene.switched.added:
                note = "added to the circuit: A takes it out again"
            facts.show([[Cell(f" {text}", "strong")], [Cell(f" {note}", "dim")]])
            links.fill([])
            return
        found = node_facts(loaded.graph, index)
        is_off = index in loaded.off(self.scene.switched)
        scale = scales_of(loaded.graph)[0]
        bias = None if self._activity is None else self._activity.bias
        facts.show(fact_lines(found, scale, is_off=is_off, bias=bias))
        links.fill(link_rows(found), empty="joined to nothing in this circuit")

    # ------------------------------------------------------------------------------------ asking

    def _ask_activity(self) -> None:
        node, model, loaded = self.scene.node, self.scene.model, self.loaded
        circuit = loaded.id if loaded is not None and self._in_circuit else None
        wanted = (node, model, circuit, self.scene.task)
        if wanted == self._asked and self._activity is not None:
            return
        self._asked, self._activity, self._partner = wanted, None, None
        self.drop("partner")
        self._fill_texts()
        if node is None:
            return

        def arrived(activity: NodeActivity) -> None:
            self._activity = activity
            self._fill_facts()
            self.circuit_app.learn_names(sorted(token_ids(activity)), self._fill_texts)
            self._fill_texts()
            self._ask_partner(activity)

        self.ask("samples", self._samples(node, circuit), arrived,
                 what=f"reading {node.site}[{node.channel}]", otherwise=self._refused)  # fmt: skip

    def _samples(self, node: SelectedNode, circuit: str | None) -> Any:
        return samples(
            node.site,
            node.channel,
            self.scene.model,
            circuit=circuit,
            task=self.scene.task,
            n_pairs=_N_PAIRS,
            n_attention_pairs=_N_ATTENTION_PAIRS,
        )

    def _ask_partner(self, activity: NodeActivity) -> None:
        """The key of a query, the query of a key: for the channel's share."""
        layer, _, kind = activity.raw.site.rpartition(".")
        if activity.raw.attention is None or kind not in _PARTNERS:
            return

        def arrived(partner: NodeActivity) -> None:
            self._partner = partner
            if self._kind == "attention":
                self._fill_texts()

        node = SelectedNode(site=f"{layer}.{_PARTNERS[kind]}", channel=activity.raw.channel)
        circuit = self.loaded.id if self.loaded is not None and self._in_circuit else None
        self.ask("partner", self._samples(node, circuit), arrived, otherwise=lambda _: None)

    def _refused(self, error: CircuitError) -> None:
        self.query_one(Passages).show([], scale_of([], zero_centred=True), empty=error.message)
        self.circuit_app.link.show_problem(error)

    # ------------------------------------------------------------------------------------ filling

    def _fill_texts(self) -> None:
        pane, texts = self.query_one("#texts-pane", Pane), self.query_one(Passages)
        legend = self.query_one(HeatLegend)
        where = "in the circuit alone" if self._in_circuit else "in the whole model"
        self.query_one("#kinds", ContentSwitcher).current = (
            "distribution" if self._kind == "distribution" else "passages"
        )
        if self._activity is None:
            empty = "select a node: in the circuit, press 2" if self.scene.node is None else (
                "reading where it is active: esc cancels")  # fmt: skip
            texts.show([], scale_of([], zero_centred=True), empty=empty)
            legend.show(None)
            pane.retitle(_TITLES[self._kind], "")
            self.query_one("#histogram", Lines).show([])
            return
        passages, note = self._passages(self._activity)
        pane.retitle(_TITLES[self._kind], f"{where}{note}")
        if self._kind == "distribution":
            lines = self.query_one("#histogram", Lines)
            columns = max(60, lines.size.width)
            bars = glyphs(self.circuit_app.look).full
            lines.show(distribution_lines(self._activity, columns, bars))
            legend.show(None)
            return
        empty = "this node is in no head: only q, k and v attend"
        scale = scale_of(passages, zero_centred=self._zero_centred)
        texts.show(passages, scale, empty=empty if self._kind == "attention" else "nothing")
        legend.show(scale if passages else None)

    def _passages(self, activity: NodeActivity) -> tuple[list[Passage], str]:
        names = self.circuit_app.names.of
        match self._kind:
            case "task":
                shown = SHOWN[self._which_class]
                return task_passages(activity, names, shown), f", {shown}"
            case "text":
                return band_passages(activity, names), ""
            case "attention":
                of = "this channel's share" if self._share else "the whole head"
                found = attention_passages(activity, names, back=self._back,
                                           partner=self._partner, share=self._share)  # fmt: skip
                return found, f", {of}"
            case "distribution":
                return [], ""

    @on(Passages.Moved)
    def say_value(self, message: Passages.Moved) -> None:
        """The number under the cursor."""
        value = float(message.widget.passages[message.passage].values[message.token])
        self.query_one("#texts-pane", Pane).note(f"value {number(value)}")

    # ------------------------------------------------------------------------------------- acting

    def action_show_kind(self, kind: Kind) -> None:
        """Other texts."""
        self._kind = kind
        self._fill_texts()
        self.show_pane("texts-pane")

    def action_next_class(self) -> None:
        """All, class 1, class 2, difference."""
        self._which_class = (self._which_class + 1) % len(SHOWN)
        self.action_show_kind("task")

    def action_share(self) -> None:
        """Head or channel."""
        self._share = not self._share
        self.action_show_kind("attention")

    def action_query(self, by: int) -> None:
        """Attention from another token."""
        self._back = max(0, self._back + by)
        self.action_show_kind("attention")

    def action_zero_centre(self) -> None:
        """Another meaning of colours."""
        self._zero_centred = not self._zero_centred
        self._fill_texts()

    def action_whole_model(self) -> None:
        """In the circuit, or in the whole model."""
        self._in_circuit = not self._in_circuit
        self._ask_activity()

    def action_other_node(self, by: int) -> None:
        """Along the circuit's nodes."""
        index, loaded = self._index(), self.loaded
        if loaded is None or not loaded.graph.nodes:
            return
        n = len(loaded.graph.nodes)
        node = loaded.graph.nodes[((index if index is not None else -by) + by) % n]
        self.do(Select(SelectedNode(site=node.site, channel=node.channel)))

    @on(Rows.Chosen, "#links")
    def follow_link(self, message: Rows.Chosen) -> None:
        """On to the node at the other end."""
        name = message.row.cells[1].text
        nodes = self.loaded.graph.nodes if self.loaded else ()
        node = next((n for n in nodes if n.name == name), None)
        if node is not None:
            self.do(Select(SelectedNode(site=node.site, channel=node.channel)))

    # ------------------------------------------------------------------------------------ sharing

    def place_name(self) -> str:
        """The node."""
        node = self.scene.node
        return "" if node is None else f"{node.site}[{node.channel}]"

    def plain_text(self) -> str:
        """Facts and texts, each token with its value."""
        lines = [self.query_one("#facts", Lines).text]
        for p in self.query_one(Passages).passages:
            lines.append(f"{p.group} {p.heading}".strip())
            lines += [f"{t.decode('utf-8', 'replace')!r}\t{number(float(v))}"
                      for t, v in zip(p.tokens, p.values, strict=True)]  # fmt: skip
        return "\n".join(lines)

    def as_python(self) -> str:
        """The request for its samples."""
        node = self.scene.node
        if node is None:
            return ""
        of = f", circuit={self.loaded.id!r}" if self.loaded and self._in_circuit else ""
        return (
            "from circuit_client import connect\n\nwith connect() as c:\n"
            f"    node = c.circuits.samples({node.site!r}, {node.channel}, {self.scene.model!r}"
            f"{of}, task={self.scene.task!r})\n"
            "    print(node.mean, node.task_activations.shape)\n"
        )

    def as_command(self) -> str:
        """The command that prints it."""
        node = self.scene.node
        if node is None:
            return ""
        name = format_nodes(node_set([NodeId(node.site, node.channel)]))
        of = f" --circuit {self.loaded.id[:8]}" if self.loaded and self._in_circuit else ""
        return f"circuit circuits samples '{name}'{of} --task {self.scene.task}"

    def as_json(self) -> Any:
        """Its samples."""
        return None if self._activity is None else self._activity.raw

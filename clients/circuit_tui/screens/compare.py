"""Two circuits, of one model or of two, or two prompts in one circuit, side by side."""

from typing import Any, ClassVar, Literal

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, Input

from circuit_client import iv
from circuit_client.answers import ForwardAnswer
from circuit_client.render.heat import scale_for
from circuit_client.switching import kept
from circuit_client.verbs.circuits import list_circuits, show
from circuit_client.verbs.forward import forward
from circuit_client.views.comparison import compare
from circuit_client.views.matrix import site_matrix
from circuit_protocol.circuit_replies import CircuitShown
from circuit_protocol.circuits import CircuitSummary
from circuit_protocol.session import SelectedNode
from circuit_tui.keys import bindings
from circuit_tui.link import LinkState
from circuit_tui.loaded import Loaded
from circuit_tui.pictures import scales_of
from circuit_tui.screens.page import Page
from circuit_tui.state import Scene, Select
from circuit_tui.views.catalogue import CIRCUIT_COLUMNS, circuit_rows
from circuit_tui.views.circuit import headline
from circuit_tui.views.compare import COLUMNS, comparison_rows, share_line
from circuit_tui.views.passages import Passage, strongest
from circuit_tui.views.table import Cell, as_text
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.one_line import OneLine
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.passages import Passages
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.site_matrix import MatrixView

What = Literal["circuits", "prompts"]


class ComparePage(Page):
    """Compare."""

    PLACE = "compare"
    TITLE_TEXT = "compare"
    HELP_TEXT = (
        "A is the circuit that is looked at; choose B from the list with enter: another size, "
        "another seed, another model. Nodes that only A keeps are marked -, those that only B "
        "keeps +, and the largest changes of what a node is worth come first. t compares two "
        "prompts of your own in circuit A instead: the loss of every token, and what differs."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("compare"))
    PANES: ClassVar[dict[str, str]] = {
        "with-pane": "choose B",
        "sides-pane": "A and B",
        "changes-pane": "changes",
    }
    DEFAULT_CSS = """
    ComparePage ContentSwitcher { height: 1fr; }
    ComparePage #with-pane { width: 44; }
    ComparePage.-narrow #with-pane, ComparePage.-narrow #right { width: 1fr; }
    ComparePage #sides-pane { height: auto; max-height: 50%; }
    ComparePage #sides-pane Horizontal { height: auto; }
    ComparePage #sides-pane Vertical { height: auto; width: 1fr; }
    ComparePage.-narrow #sides-pane Horizontal { layout: vertical; }
    ComparePage #prompts OneLine { margin: 0 1 1 1; }
    ComparePage PaneTabs.-away { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._what: What = "circuits"
        self._found: tuple[CircuitSummary, ...] = ()
        self._other: Loaded | None = None
        self._answers: list[ForwardAnswer | None] = [None, None]

    def compose_page(self) -> ComposeResult:
        """The list of what to compare with, the two circuits, and what differs."""
        look = self.circuit_app.look
        yield PaneTabs(self.PANES)
        with ContentSwitcher(initial="circuits", id="whats"):
            with Horizontal(id="circuits"):
                yield Pane("choose B", Rows(CIRCUIT_COLUMNS, empty="waiting for the daemon",
                                            id="with"), id="with-pane")  # fmt: skip
                with Vertical(id="right"):
                    yield Pane(
                        "A and B",
                        Horizontal(*(
                            Vertical(
                                Lines(look=look, height=1, id=f"head-{side}"),
                                MatrixView(look=look, id=f"matrix-{side}"),
                            )
                            for side in "ab"
                        )),
                        id="sides-pane",
                    )  # fmt: skip
                    yield Pane(
                        "changes",
                        Lines(look=look, height=1, id="shares"),
                        Rows(COLUMNS, empty="choose B in the list", id="changes"),
                        id="changes-pane",
                    )
            with Vertical(id="prompts"):
                yield OneLine(placeholder="prompt A", id="prompt-0")
                yield OneLine(placeholder="prompt B", id="prompt-1")
                yield Passages(look=look, id="texts")

    def on_mount(self) -> None:
        """Begin at the list."""
        super().on_mount()
        self.show_pane("with-pane")
        self._ask_list()

    # --------------------------------------------------------------------------------- listening

    def show_link(self, before: LinkState, after: LinkState) -> None:
        """Ask for the list again when there is another daemon."""
        if after.phase == "open" and before.phase != "open":
            self._ask_list()

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another task has other circuits."""
        if before is not None and before.task != after.task:
            self._fill_list()

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another A."""
        self._fill_list()
        self._fill()

    def _ask_list(self) -> None:
        call = list_circuits(limit=100_000)
        self.ask("list", call, self._take_list, what="listing circuits")

    def _take_list(self, found: tuple[CircuitSummary, ...]) -> None:
        self._found = found
        self._fill_list()

    def _fill_list(self) -> None:
        own = self.scene.circuit
        some = [s for s in self._found if s.id != own and s.broken is None]
        # Of the same task first: those are the ones that one wants to compare with.
        some.sort(key=lambda s: (s.task != self.scene.task, s.model != self.scene.model, s.task,
                                 s.measured.k))  # fmt: skip
        self.query_one("#with", Rows).fill(circuit_rows(some), empty="no other circuit")

    @on(Rows.Chosen, "#with")
    def choose_other(self, message: Rows.Chosen) -> None:
        """B."""
        found = next((s for s in self._found if s.id == message.row.key), None)
        if found is not None:
            self.ask("other", show(found.id, model=found.model), self._take_other,
                     what="reading B")  # fmt: skip

    def _take_other(self, shown: CircuitShown) -> None:
        model = self.circuit_app.loaded.model if self.circuit_app.loaded else None
        same = model is not None and model.model == shown.circuit.model
        self._other = Loaded(shown, model if same else None)
        self._fill()
        self.show_pane("changes-pane")

    # ------------------------------------------------------------------------------------ filling

    def _fill(self) -> None:
        a, b = self.circuit_app.loaded, self._other
        for side, loaded in (("a", a), ("b", b)):
            head = self.query_one(f"#head-{side}", Lines)
            view = self.query_one(f"#matrix-{side}", MatrixView)
            name = Cell(f" {side.upper()} ", "note")
            if loaded is None:
                text = "no circuit is chosen: press 1" if side == "a" else "choose it in the list"
                head.show([[name, Cell(text, "dim")]])
                continue
            model = loaded.shown.circuit.model
            head.show([[name, Cell(f"{model} {loaded.shown.circuit.task}", "dim"),
                        *headline(loaded)]])  # fmt: skip
            matrix = site_matrix(loaded.graph, n_layer=loaded.n_layer)
            view.styles.height = len(matrix.layers) + 1
            view.show(matrix, scales_of(loaded.graph)[0])
        if a is None or b is None:
            return
        one_model = a.shown.circuit.model_hash == b.shown.circuit.model_hash
        comparison = compare(a.graph, b.graph, one_model=one_model)
        numbers = [abs(d) for n in comparison.nodes for d in (n.left, n.right) if d is not None]
        scale = scale_for(numbers, "diverging", "nats")
        change = b.shown.circuit.measured.loss - a.shown.circuit.measured.loss
        line = [Cell(f" loss {change:+.3f}", "strong"), *share_line(comparison)]
        self.query_one("#shares", Lines).show([line])
        rows = comparison_rows(comparison, scale)
        self.query_one("#changes", Rows).fill(rows, empty="nodes of two models are not matched")

    # ------------------------------------------------------------------------------------- acting

    def action_what(self) -> None:
        """Circuits, or prompts."""
        self._what = "prompts" if self._what == "circuits" else "circuits"
        self.query_one("#whats", ContentSwitcher).current = self._what
        self.query_one(PaneTabs).set_class(self._what == "prompts", "-away")
        if self._what == "prompts":
            self.query_one("#prompt-0", Input).focus()
            self._run_prompts()
        else:
            self.show_pane("with-pane")

    def action_next_pane(self, by: int) -> None:
        """Among the prompts, the next line."""
        if self._what == "circuits":
            super().action_next_pane(by)
        elif by > 0:
            self.focus_next()
        else:
            self.focus_previous()

    @on(Input.Changed)
    def _run_prompts(self) -> None:
        loaded = self.circuit_app.loaded
        texts = [self.query_one(f"#prompt-{i}", Input).value for i in (0, 1)]
        for i, text in enumerate(texts):
            if not text:
                self._answers[i] = None
                continue
            interventions = []
            if loaded is not None:
                nodes = kept(self.scene.switched, loaded.shown.circuit.nodes, loaded.d_head)
                interventions = [iv.keep(nodes)]
            call = forward(self.scene.model, text=text, targets="next", logits="none", top_k=5,
                           interventions=interventions)  # fmt: skip

            def answered(answer: ForwardAnswer, i: int = i) -> None:
                self._answers[i] = answer
                ids = [*answer.tokens.ravel().tolist(), *answer.top_k.ids[0, -1].tolist()]
                self.circuit_app.learn_names(ids, self._fill_prompts)
                self._fill_prompts()

            self.ask(f"prompt {i}", call, answered, what="running the prompts")

    def _fill_prompts(self) -> None:
        names = self.circuit_app.names
        passages: list[Passage] = []
        losses: list[np.ndarray] = []
        for i, answer in enumerate(self._answers):
            if answer is None:
                continue
            n = int(answer.lengths[0])
            loss = np.concatenate([[np.nan], answer.token_loss[0, : n - 1]]).astype(np.float32)
            losses.append(loss)
            top = ", ".join(
                f"{names[int(t)].decode('utf-8', 'replace')!r} {np.exp(p):.0%}"
                for t, p in zip(answer.top_k.ids[0, -1], answer.top_k.logprobs[0, -1], strict=True)
            )
            tokens = tuple(names.of(answer.tokens[0, :n].tolist()))
            passages.append(Passage(f"next: {top}", tokens, loss, strongest(loss), "AB"[i]))
        if len(losses) == 2:
            both = min(map(len, losses))
            change = losses[1][:both] - losses[0][:both]
            tokens = passages[1].tokens[:both]
            passages.append(Passage("loss of B minus loss of A, token by token", tokens, change,
                                    strongest(change), "difference"))  # fmt: skip
        values = [abs(float(v)) for p in passages for v in p.values if np.isfinite(v)]
        self.query_one("#texts", Passages).show(
            passages, scale_for(values, "diverging", "nats"), empty="type two prompts above"
        )

    @on(Rows.Moved, "#changes")
    def look_at_node(self, message: Rows.Moved) -> None:
        """It is the selected one."""
        site, _, channel = message.row.key.removesuffix("]").partition("[")
        self.circuit_app.do(Select(SelectedNode(site=site, channel=int(channel))))

    @on(Rows.Chosen, "#changes")
    def open_node(self) -> None:
        """Read it."""
        self.circuit_app.action_go("node")

    # ------------------------------------------------------------------------------------ sharing

    def plain_text(self) -> str:
        """What differs."""
        head = self.query_one("#shares", Lines).text
        return f"{head}\n{as_text(COLUMNS, self.query_one('#changes', Rows).rows)}"

    def as_python(self) -> str:
        """The diff."""
        if self._other is None or self.scene.circuit is None:
            return ""
        return (
            "from circuit_client import connect\n\nwith connect() as c:\n"
            f"    diff = c.circuits.diff({self.scene.circuit!r}, {self._other.id!r})\n"
            "    print(diff.jaccard, diff.loss_change)\n"
        )

    def as_command(self) -> str:
        """The diff."""
        if self._other is None or self.scene.circuit is None:
            return ""
        return f"circuit circuits diff {self.scene.circuit[:8]} {self._other.id[:8]}"

    def as_json(self) -> Any:
        """The comparison."""
        a, b = self.circuit_app.loaded, self._other
        if a is None or b is None:
            return None
        one_model = a.shown.circuit.model_hash == b.shown.circuit.model_hash
        return compare(a.graph, b.graph, one_model=one_model)

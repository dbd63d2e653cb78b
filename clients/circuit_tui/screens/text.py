"""Your own text: typed, pasted or opened, and what model and circuit make of it as you type."""

from typing import Any, ClassVar, Final, Literal

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import TextArea

from circuit_client.answers import ForwardAnswer, HookAnswer
from circuit_client.render.heat import number
from circuit_protocol.errors import CircuitError, InvalidRequest
from circuit_protocol.session import SelectedNode
from circuit_tui.keys import bindings
from circuit_tui.link import LinkState, Problem
from circuit_tui.loaded import Loaded
from circuit_tui.screens.with_text import WithText
from circuit_tui.state import Scene, Select, Write
from circuit_tui.trying import (
    MAX_CHARACTERS,
    Tried,
    Why,
    active_call,
    circuit_alone,
    read_active,
    read_tried,
    try_call,
)
from circuit_tui.views.table import as_text
from circuit_tui.views.text import (
    ACTIVE_COLUMNS,
    NEXT_COLUMNS,
    WHY_COLUMNS,
    active_rows,
    next_rows,
    quoted,
    why_rows,
)
from circuit_tui.widgets.legend import HeatLegend
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.prompt import Prompt
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.token_heat import TokenHeat

Mode = Literal["loss", "circuit", "difference", "node"]
_MODES: Final[dict[Mode, str]] = {
    "loss": "loss in the model",
    "circuit": "loss in the circuit alone",
    "difference": "what the circuit loses: its loss minus the model's",
    "node": "value of the selected node",
}
#: After so long without another key the daemon is asked.
_DEBOUNCE_S: Final = 0.12


class TextPage(WithText):
    """Try your own text."""

    PLACE = "text"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "Type or paste a prompt. Below, each token stands on the colour of its loss: how badly it "
        "was foreseen. m: colours by the circuit's loss, the difference, or the selected node's "
        "value. At the right: what comes next after the token under the cursor, and the circuit's "
        "nodes by how active they are there; space switches one off, and the text answers. w: why "
        "the token that follows and not another. x: make the text up to the cursor an example."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("text"))
    PANES: ClassVar[dict[str, str]] = {
        "prompt-pane": "text",
        "tokens-pane": "tokens",
        "next-pane": "next",
        "nodes-pane": "nodes",
    }
    DEFAULT_CSS = """
    TextPage #right { width: 44; }
    TextPage.-narrow #right { width: 1fr; }
    TextPage.-narrow .-away { display: none; }
    TextPage TokenHeat, TextPage HeatLegend { margin: 0 1; }
    TextPage #prompt-pane { height: 2fr; }
    TextPage #tokens-pane { height: 3fr; margin-top: 1; }
    TextPage #next-pane { height: 2fr; }
    TextPage #nodes-pane { height: 3fr; margin-top: 1; }
    TextPage.-narrow #tokens-pane, TextPage.-narrow #nodes-pane { margin-top: 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._mode: Mode = "loss"
        self._circuit: Tried | None = None
        self._active: np.ndarray | None = None
        self._why_shown: Why | None = None
        self._asked: tuple[Any, ...] | None = None
        self._debounce: Timer | None = None

    def compose_page(self) -> ComposeResult:
        """The editor above its tokens; predictions above nodes."""
        look = self.circuit_app.look
        yield PaneTabs(self.PANES)
        with Horizontal():
            with Vertical(id="left"):
                prompt = Prompt(max_characters=MAX_CHARACTERS, id="prompt")
                yield Pane("text", prompt, id="prompt-pane")
                yield Pane(
                    "tokens",
                    TokenHeat(look=look, unit="nats", zero_centred=False, id="tokens"),
                    HeatLegend(look=look, id="legend", classes="painted"),
                    id="tokens-pane",
                )
            with Vertical(id="right"):
                yield Pane("next", Rows(NEXT_COLUMNS, empty="type something", id="next"),
                           id="next-pane")  # fmt: skip
                yield Pane("nodes", Rows(ACTIVE_COLUMNS, empty="choose a circuit: press 1",
                                         id="nodes"), id="nodes-pane")  # fmt: skip

    def on_mount(self) -> None:
        """Begin in the editor."""
        super().on_mount()
        self.show_pane("prompt-pane")

    # --------------------------------------------------------------------------------- listening

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another text (perhaps somebody else's), model, node or switching."""
        prompt = self.query_one(Prompt)
        if after.text is not None and after.text != prompt.text:
            prompt.load_text(after.text)
        if before is None or before.node != after.node:
            self._fill_tokens()
            if after.node is not None:
                name = f"{after.node.site}[{after.node.channel}]"
                self.query_one("#nodes", Rows).point_at(name)
        self._ask()

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another circuit answers differently."""
        if loaded is None:
            self._circuit = self._active = self._why = None
        self._ask()

    def show_link(self, before: LinkState, after: LinkState) -> None:
        """Ask again once there is a daemon, or another one."""
        if after.phase == "open" and before.phase != "open":
            self._asked = None
            self._ask()

    @on(TextArea.Changed, "#prompt")
    def text_changed(self) -> None:
        """Wait for a pause in typing."""
        if self._debounce is not None:
            self._debounce.stop()
        self._debounce = self.set_timer(_DEBOUNCE_S, self._typed)

    def _typed(self) -> None:
        self.do(Write(self.query_one(Prompt).text or None))
        self._ask()

    @on(Prompt.Refused)
    def refuse_paste(self, message: Prompt.Refused) -> None:
        """Say why nothing was pasted."""
        self.circuit_app.on_problem(
            Problem(
                InvalidRequest(
                    "this is too much text to paste",
                    asked=f"{message.found:,} characters",
                    found=f"room for {message.allowed:,}; models here read far fewer",
                    hint="Paste the part that matters",
                )
            )
        )

    # ------------------------------------------------------------------------------------ asking

    def _ask(self) -> None:
        if not self.is_mounted or self.circuit_app.link.state.phase != "open":
            return
        text, loaded = self.query_one(Prompt).text, self.loaded
        circuit = None if loaded is None else (loaded.id, self.scene.switched, loaded.d_head)
        wanted = (text, self.scene.model, circuit)
        if wanted == self._asked:
            return
        self._asked = wanted
        if not text:
            for slot in ("model", "circuit", "active", "why"):
                self.drop(slot)
            self._model = self._circuit = self._active = self._why = None
            self._fill()
            return
        self.ask("model", try_call(self.scene.model, text), self._take_model,
                 otherwise=self._refused)  # fmt: skip
        if loaded is None:
            return
        alone = circuit_alone(loaded, self.scene.switched)

        def take_circuit(answer: ForwardAnswer) -> None:
            self._circuit = read_tried(answer)
            self._learn(self._circuit)

        def take_active(answer: HookAnswer) -> None:
            self._active = read_active(loaded, answer)
            self._fill()

        model = loaded.shown.circuit.model
        self.ask("circuit", try_call(model, text, alone), take_circuit, otherwise=_ignored)
        self.ask("active", active_call(loaded, self.scene.switched, text), take_active,
                 otherwise=_ignored)  # fmt: skip

    def _take_model(self, answer: ForwardAnswer) -> None:
        self._model = read_tried(answer)
        if self._why is not None and self._model.tokens[: self._why.position + 1] != self._why_of:
            self._why = None
        self._learn(self._model)

    def _learn(self, tried: Tried) -> None:
        ids = {*tried.tokens, *tried.next_ids.ravel().tolist()}
        self.circuit_app.learn_names(ids, self._fill)
        self._fill()

    def _refused(self, error: CircuitError) -> None:
        self._model = self._circuit = self._active = None
        self._fill()
        said = f"{error.message}: {error.found}" if error.found else error.message
        self.query_one("#tokens-pane", Pane).retitle("tokens", said)

    # ------------------------------------------------------------------------------------ filling

    def _fill(self) -> None:
        self._fill_tokens()
        self._fill_tables()

    def _fill_tokens(self) -> None:
        tokens, pane = self.query_one(TokenHeat), self.query_one("#tokens-pane", Pane)
        legend = self.query_one(HeatLegend)
        if self._model is None:
            tokens.show(())
            legend.show(None)
            pane.retitle("tokens", "" if self.query_one(Prompt).text else "nothing typed yet")
            return
        values, note = self._values()
        centred = self._mode in ("difference", "node")
        if tokens.zero_centred != centred:
            tokens.zero_centred = centred
        names = self.circuit_app.names.of(self._model.tokens)
        tokens.show(names, values, unit="" if self._mode == "node" else "nats")
        if tokens.cursor is None:
            tokens.select(len(names) - 1)
        legend.show(tokens.scale)
        pane.retitle("tokens", note)

    def _values(self) -> tuple[np.ndarray, str]:
        """A number for each token, and what it is in words."""
        assert self._model is not None
        n, model, circuit = len(self._model.tokens), self._model, self._circuit
        nothing = np.full(n, np.nan, np.float32)
        if circuit is not None and circuit.tokens != model.tokens:
            circuit = None  # of an earlier text
        if self._mode == "loss":
            return model.losses, f"{_MODES['loss']}: mean {number(model.mean_loss)} nats"
        if self.loaded is None:
            return nothing, "no circuit is chosen: press 1"
        if self._mode == "node":
            index = self._index()
            if index is None or self._active is None or len(self._active) != n:
                node = self.scene.node
                why = "no node is selected" if node is None else "not in the circuit"
                return nothing, why
            return self._active[:, index], self.loaded.graph.nodes[index].name
        if circuit is None:
            return nothing, "asking"
        if self._mode == "circuit":
            return circuit.losses, f"{_MODES['circuit']}: mean {number(circuit.mean_loss)} nats"
        return circuit.losses - model.losses, _MODES["difference"]

    def _fill_tables(self) -> None:
        at, look = self._position(), self.circuit_app.look
        following = self.query_one("#next", Rows)
        pane = self.query_one("#next-pane", Pane)
        names = self.circuit_app.names
        if self._model is None or at is None:
            following.fill(())
            pane.retitle("next", "")
        else:
            rows = next_rows(
                self._model, self._circuit, at, names.__getitem__, ascii_only=look.ascii_only
            )
            following.fill(rows)
            here = quoted(names[self._model.tokens[at]], ascii_only=look.ascii_only)
            pane.retitle("next", f"after {here}")
        nodes, nodes_pane = self.query_one("#nodes", Rows), self.query_one("#nodes-pane", Pane)
        loaded = self.loaded
        if loaded is None:
            nodes.fill((), columns=ACTIVE_COLUMNS)
            nodes_pane.retitle("nodes", "")
        elif self._why is not None and self._why.position == at:
            rows = why_rows(loaded.graph, self._why)
            first = rows[0].key if rows and self._why is not self._why_shown else None
            self._why_shown = self._why
            nodes.fill(rows, columns=WHY_COLUMNS, empty="no node matters to this alone",
                       cursor_key=first)  # fmt: skip
            nodes_pane.retitle("why", self._why_text(self._why))
        elif self._active is not None and at is not None and at < len(self._active):
            deltas = [node.delta for node in loaded.graph.nodes]
            nodes.fill(active_rows(loaded.graph, self._active[at], deltas), columns=ACTIVE_COLUMNS,
                       empty="every node of the circuit is at zero here")  # fmt: skip
            nodes_pane.retitle("nodes", "the circuit's, by size here")
        else:
            nodes.fill((), columns=ACTIVE_COLUMNS, empty="type something")
            nodes_pane.retitle("nodes", "")

    def _why_text(self, why: Why) -> str:
        names, plain = self.circuit_app.names, self.circuit_app.look.ascii_only
        right, wrong = (quoted(names[t], ascii_only=plain) for t in (why.right, why.wrong))
        return (
            f"{right} not {wrong}: circuit {why.circuit_probability:.0%}, "
            f"model {why.model_probability:.0%}"
        )

    def _position(self) -> int | None:
        cursor = self.query_one(TokenHeat).cursor
        if self._model is None or not self._model.tokens:
            return None
        return len(self._model.tokens) - 1 if cursor is None else cursor

    # ------------------------------------------------------------------------------------- acting

    @on(TokenHeat.Moved)
    def look_at_token(self) -> None:
        """What comes next there, and what is active."""
        self._fill_tables()

    @on(TokenHeat.ScaleChanged)
    def show_scale(self, message: TokenHeat.ScaleChanged) -> None:
        """The legend follows."""
        self.query_one(HeatLegend).show(message.scale)

    @on(Rows.Moved, "#nodes")
    def look_at_node(self, message: Rows.Moved) -> None:
        """Select the node under the cursor: space switches it, colours may show it."""
        self._select(message.row.key)

    @on(Rows.Chosen, "#nodes")
    def show_node(self, message: Rows.Chosen) -> None:
        """Colour the text by it."""
        self._select(message.row.key)
        self._mode = "node"
        self._fill_tokens()

    @on(Rows.Chosen, "#next")
    def ask_about(self, message: Rows.Chosen) -> None:
        """Why the token that follows, and not the chosen one."""
        self._ask_why(int(message.row.key))

    def _select(self, name: str) -> None:
        site, _, channel = name.removesuffix("]").rpartition("[")
        self.do(Select(SelectedNode(site=site, channel=int(channel))))

    def action_next_mode(self, by: int) -> None:
        """Other colours."""
        modes = list(_MODES)
        self._mode = modes[(modes.index(self._mode) + by) % len(modes)]
        self._fill_tokens()

    def action_edit(self) -> None:
        """The keys go to the text."""
        self.show_pane("prompt-pane")

    # ------------------------------------------------------------------------------------ sharing

    def plain_text(self) -> str:
        """Each token with its number, then both tables."""
        tokens = self.query_one(TokenHeat)
        pairs = zip(tokens.tokens, tokens.values.tolist(), strict=True)
        lines = [f"{t.decode('utf-8', 'replace')!r}\t{number(v)}" for t, v in pairs]
        following, nodes = self.query_one("#next", Rows), self.query_one("#nodes", Rows)
        lines += ["", as_text(NEXT_COLUMNS, following.rows)]
        columns = WHY_COLUMNS if self._why is not None else ACTIVE_COLUMNS
        return "\n".join([*lines, "", as_text(columns, nodes.rows)])

    def as_python(self) -> str:
        """The request for losses and predictions."""
        text = self.query_one(Prompt).text
        return (
            "from circuit_client import connect\n\n"
            "with connect() as c:\n"
            f"    answer = c.forward({self.scene.model!r}, text={text!r},\n"
            '                       targets="next", logits="none", top_k=12)\n'
            "    print(answer.token_loss, answer.top_k)\n"
        )

    def as_command(self) -> str:
        """The command that prints losses and predictions."""
        import shlex

        model = f" --model {shlex.quote(self.scene.model)}" if self.scene.model else ""
        return f"circuit forward {shlex.quote(self.query_one(Prompt).text)} --top-k 12{model}"

    def as_json(self) -> Any:
        """Tokens with their numbers."""
        if self._model is None:
            return None
        names = self.circuit_app.names
        return {
            "model": self.scene.model,
            "text": self.query_one(Prompt).text,
            "tokens": [
                {"id": t, "text": names[t].decode("utf-8", "replace"),
                 "loss": None if np.isnan(loss) else loss}
                for t, loss in zip(self._model.tokens, self._model.losses.tolist(), strict=True)
            ],
        }  # fmt: skip


def _ignored(error: CircuitError) -> None:
    """What the model says of the text is said already."""

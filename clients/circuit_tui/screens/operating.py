"""Pages on which parts are switched off and on: the keys, and what each of them means."""

from typing import ClassVar, Final

from textual.binding import BindingType

from circuit_client.notation import parse_nodes
from circuit_client.switching import NodeId, Part
from circuit_client.verbs.circuits import edit
from circuit_protocol.circuit_replies import CircuitDerived
from circuit_protocol.errors import CircuitError, InvalidRequest
from circuit_protocol.messages import AblationKind
from circuit_protocol.session import SelectedNode
from circuit_tui.keys import bindings
from circuit_tui.link import Problem
from circuit_tui.loaded import Loaded, node_id
from circuit_tui.screens.ask_name import AskName
from circuit_tui.screens.page import Page
from circuit_tui.state import Choose, Grow, Mend, Redo, Select, Toggle, Undo, UseKind

_KINDS: Final[tuple[AblationKind, ...]] = ("mean", "zero", "resample")


class Operating(Page):
    """A page with a selected node that can be switched."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings("operate"))

    @property
    def loaded(self) -> Loaded | None:
        """The circuit, once it is here."""
        return self.circuit_app.loaded

    def parts_here(self) -> tuple[Part, ...]:
        """What `toggle` switches: the selected node, unless the page says otherwise."""
        index = self._index()
        return () if index is None or self.loaded is None else (node_id(self.loaded, index),)

    def _index(self) -> int | None:
        return None if self.loaded is None else self.loaded.index_of(self.scene.node)

    def _toggle(self, *parts: Part | None) -> None:
        wanted = tuple(p for p in parts if p is not None)
        if wanted:
            self.do(Toggle(wanted))
        else:
            self.notify("Select a node first.", severity="warning")

    def action_switch(self) -> None:
        """Off, or on again."""
        self._toggle(*self.parts_here())

    def action_switch_head(self) -> None:
        """The selected node's whole head."""
        index = self._index()
        if index is None or self.loaded is None:
            self._toggle()
        elif (head := self.loaded.head_of(index)) is None:
            self.notify("This node is in no head: only q, k and v are.", severity="warning")
        else:
            self._toggle(head)

    def action_switch_half(self) -> None:
        """The selected node's half block."""
        index = self._index()
        self._toggle(None if index is None or self.loaded is None else self.loaded.half_of(index))

    def action_add_node(self) -> None:
        """Ask for a node that the circuit does not keep; the selected one is offered, if it is."""
        if self.loaded is None:
            self.notify("Choose a circuit first: press 1.", severity="warning")
            return
        node = self.scene.node
        if node is not None and NodeId(node.site, node.channel) in self.scene.switched.added:
            self.do(Grow((NodeId(node.site, node.channel),)))
            return
        is_kept = node is None or self._index() is not None
        text = "" if node is None or is_kept else f"{node.site}[{node.channel}]"
        question = "Add which node? A site and a channel, such as 0.mlp.post_act[12]"
        self.app.push_screen(AskName(question, text), self._add_named)

    def _add_named(self, text: str | None) -> None:
        loaded = self.loaded
        if not text or loaded is None:
            return
        try:
            nodes = tuple(NodeId(s.site, c) for s in parse_nodes(text) for c in s.channels or ())
            if not nodes:
                raise InvalidRequest(
                    "which channel of it?", asked=text, hint="Nodes look like 2.mlp.post_act[3]"
                )
            for node in nodes:
                loaded.check_node(node)
        except CircuitError as e:
            self.circuit_app.on_problem(Problem(e))
            return
        if not set(nodes) <= self.scene.switched.added:
            self.do(Grow(nodes))
        self.do(Select(SelectedNode(site=nodes[0].site, channel=nodes[0].channel)))

    def action_next_kind(self) -> None:
        """Another value for what is off."""
        own = self.loaded.shown.circuit.ablation if self.loaded else "mean"
        now = self.scene.switched.kind or own
        kind = _KINDS[(_KINDS.index(now) + 1) % len(_KINDS)]
        self.do(UseKind(None if kind == own else kind))
        self.notify(f"What is off is held at: {kind}", timeout=2)

    def action_undo(self) -> None:
        """One switching back."""
        self.do(Undo())

    def action_redo(self) -> None:
        """And forth."""
        self.do(Redo())

    def action_mend(self) -> None:
        """All on."""
        self.do(Mend())

    def action_example(self, by: int) -> None:
        """Another pair."""
        self.circuit_app.measuring.next_example(by)

    def action_save(self) -> None:
        """Ask for a name, then save the circuit as it is switched."""
        if self.loaded is None:
            return
        if self.scene.switched.is_nothing:
            self.notify("Nothing is switched: the circuit is saved as it is.", severity="warning")
            return
        self.app.push_screen(AskName("Save the edited circuit in the sweep", "edited"), self._save)

    def _save(self, sweep: str | None) -> None:
        loaded = self.loaded
        if not sweep or loaded is None:
            return
        from circuit_client.switching import node_set, off_edges, off_nodes

        switched, circuit = self.scene.switched, loaded.shown.circuit
        off = off_nodes(switched, circuit.nodes, loaded.d_head)
        call = edit(
            loaded.shown,
            drop=node_set(off),
            add=node_set(switched.added - off),
            drop_edges=off_edges(switched),
            save=True,
            sweep=sweep,
        )
        self.ask("save", call, self._saved, what="saving")

    def _saved(self, derived: CircuitDerived) -> None:
        circuit = derived.circuit
        self.notify(f"Saved as {circuit.task}/{derived.sweep}/{derived.label}", markup=False)
        self.do(Choose(circuit.model, circuit.task, derived.circuit_id, circuit.measured.k))

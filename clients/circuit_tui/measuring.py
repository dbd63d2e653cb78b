"""Keeps the effect of what is switched up to date: asks on each change, the newest press wins.

The app has one of these; every page that shows the effect is told of it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from circuit_client.answers import AblateAnswer, ForwardAnswer, TaskTokens
from circuit_client.switching import NONE_SWITCHED, Switched
from circuit_client.verbs.tasks import sample
from circuit_protocol.circuit_replies import CircuitDerived
from circuit_tui.effect import (
    Effect,
    found_score,
    read_score,
    read_sides,
    score_call,
    sides_call,
)
from circuit_tui.loaded import Loaded
from circuit_tui.saying import sentence

if TYPE_CHECKING:
    from circuit_protocol.errors import CircuitError
    from circuit_tui.app import CircuitApp


class Measuring:
    """The effect of the switches on the circuit's task, and on one example pair of prompts."""

    def __init__(self, app: "CircuitApp") -> None:
        self._app = app
        self.effect = Effect()
        #: Which pair of the task is shown.
        self.example = 0
        self._loaded: Loaded | None = None
        self._pair: TaskTokens | None = None
        self._switched = NONE_SWITCHED
        #: Whether the loss of what is switched is asked for; the example waits for it.
        self._is_scoring = False

    def follow(self, loaded: Loaded | None, switched: Switched) -> None:
        """Measure if the circuit or what is switched is another."""
        if loaded is None:
            self._loaded, self._pair = None, None
            for slot in ("score", "sides", "pair", "sides found"):
                self._app.link.drop(self._app, slot)
            self._set(Effect())
            return
        is_same = self._loaded is not None and (
            self._loaded.id == loaded.id and self._loaded.d_head == loaded.d_head
        )
        if is_same and switched == self._switched:
            self._loaded = loaded
            return
        if self._loaded is None or self._loaded.id != loaded.id:
            self._pair = None
            self._set(Effect(found=found_score(loaded)))
        self._loaded, self._switched = loaded, switched
        self._measure()
        if self._pair is None:
            self._ask_pair()

    def next_example(self, by: int = 1) -> None:
        """Another pair of the task."""
        self.example = max(0, self.example + by)
        if self._loaded is not None:
            self._ask_pair()

    # ------------------------------------------------------------------------------------ asking

    def _measure(self) -> None:
        loaded, switched = self._loaded, self._switched
        if loaded is None:
            return
        link = self._app.link
        if switched.is_nothing:
            link.drop(self._app, "score")
            self._is_scoring = False
            self._set(replace(self.effect, now=None, sides_now=(), refused=None))
            link.drop(self._app, "sides")
            return

        def scored(answer: CircuitDerived | AblateAnswer) -> None:
            self._is_scoring = False
            if self._loaded is not None and self._loaded.id == loaded.id:
                self._set(replace(self.effect, now=read_score(answer), refused=None))
                self._ask_sides()

        def refused(error: "CircuitError") -> None:
            self._is_scoring = False
            self._set(replace(self.effect, now=None, refused=sentence(error)))
            self._ask_sides()

        # The loss first: the example's forward pass would take its cores from it.
        link.drop(self._app, "sides")
        self._is_scoring = True
        link.ask(
            self._app, "score", score_call(loaded, switched), scored,
            what="measuring", otherwise=refused,
        )  # fmt: skip

    def _ask_pair(self) -> None:
        loaded = self._loaded
        assert loaded is not None  # asked for one
        circuit = loaded.shown.circuit

        def drawn(pair: TaskTokens) -> None:
            if self._loaded is None or self._loaded.id != loaded.id:
                return
            self._pair = pair
            self._learn_names([*pair.tokens.ravel().tolist(), *pair.answers.ravel().tolist()])
            self._app.link.ask(
                self._app, "sides found", sides_call(loaded, NONE_SWITCHED, pair), found,
                otherwise=absent,
            )  # fmt: skip

        def found(answer: ForwardAnswer) -> None:
            if self._pair is None or self._loaded is None or self._loaded.id != loaded.id:
                return
            sides = read_sides(answer, self._pair)
            self._learn_names([t for side in sides for t, _ in side.top])
            self._set(replace(self.effect, sides_found=sides, sides_now=(), no_example=None))
            self._ask_sides()

        def absent(error: "CircuitError") -> None:
            if self._loaded is not None and self._loaded.id == loaded.id:
                self._set(replace(self.effect, no_example=sentence(error)))

        call = sample(circuit.task, circuit.model, n=1, seed=self.example)
        self._app.link.ask(self._app, "pair", call, drawn, otherwise=absent)

    def _ask_sides(self) -> None:
        loaded, pair = self._loaded, self._pair
        if loaded is None or pair is None or self._switched.is_nothing or self._is_scoring:
            return

        def answered(answer: ForwardAnswer) -> None:
            if self._pair is not pair:
                return  # of an example or a circuit that is looked at no more
            sides = read_sides(answer, pair)
            self._learn_names([t for side in sides for t, _ in side.top])
            self._set(replace(self.effect, sides_now=sides))

        call = sides_call(loaded, self._switched, pair)
        self._app.link.ask(self._app, "sides", call, answered, otherwise=lambda _: None)

    def _learn_names(self, ids: list[int]) -> None:
        self._app.learn_names(ids, self._tell)

    def _set(self, effect: Effect) -> None:
        if effect != self.effect:
            self.effect = effect
            self._tell()

    def _tell(self) -> None:
        page = self._app.page
        if page is not None and page.is_ready:
            page.show_effect(self.effect)

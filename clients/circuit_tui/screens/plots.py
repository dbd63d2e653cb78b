"""Plots from which values can be read: loss against k, pruning, settings, training metrics."""

from typing import Any, ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import ContentSwitcher

from circuit_client.verbs.circuits import list_circuits
from circuit_client.verbs.models import training as training_call
from circuit_protocol.circuits import CircuitSummary
from circuit_protocol.errors import CircuitError
from circuit_protocol.inspection import TrainingCurvesShown
from circuit_tui.keys import bindings
from circuit_tui.loaded import Loaded
from circuit_tui.screens.page import Page
from circuit_tui.state import Scene
from circuit_tui.views.plots import metric_groups, pruning, settings_lines, sizes, training
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.panes import Pane
from circuit_tui.widgets.plot import Plot, Series

Kind = Literal["sizes", "curve", "settings", "training"]
_TITLES: Final[dict[Kind, str]] = {
    "sizes": "loss against k",
    "curve": "while it was found",
    "settings": "how it was found",
    "training": "how the model was trained",
}


class PlotsPage(Page):
    """Read curves."""

    PLACE = "plots"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "k: every circuit of this model and task, loss by its number of nodes. c: loss and nodes "
        "kept while this circuit was found. s: every hyper-parameter of that. t: what was written "
        "down while the model was trained; m shows other metrics. The arrows (or the mouse) read "
        "values; l and L switch an axis between even and by powers."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("plots"))
    DEFAULT_CSS = """
    PlotsPage #plots-pane { padding: 0 1; display: block; }
    PlotsPage ContentSwitcher { height: 1fr; }
    PlotsPage #curves { height: 1fr; }
    PlotsPage #second { height: 1fr; margin-top: 1; display: none; }
    PlotsPage #second.-shown { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._kind: Kind = "sizes"
        self._found: tuple[CircuitSummary, ...] = ()
        self._trained: TrainingCurvesShown | None = None
        self._trained_empty = "asking"
        self._metric = 0
        self._asked: tuple[Any, ...] | None = None

    def compose_page(self) -> ComposeResult:
        """One plot or two, or lines."""
        look = self.circuit_app.look
        yield Pane(
            "plots",
            ContentSwitcher(
                VerticalScroll(
                    Plot(look=look, id="first"),
                    Plot(look=look, id="second"),
                    id="curves",
                    can_focus=False,
                ),
                VerticalScroll(Lines(look=look, height=1, id="lines"), id="settings"),
                initial="curves",
            ),
            id="plots-pane",
        )

    def on_mount(self) -> None:
        """The arrows read values at once."""
        super().on_mount()
        self.query_one("#first", Plot).focus()

    # --------------------------------------------------------------------------------- listening

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another model or task has other circuits and another training."""
        wanted = (after.model, after.task)
        if wanted == self._asked or after.model is None:
            return
        before_model = self._asked[0] if self._asked else None
        self._asked = wanted
        self.ask("circuits", list_circuits(model=after.model, task=after.task, limit=5000),
                 self._take_circuits)  # fmt: skip
        if after.model != before_model:
            self._trained, self._trained_empty, self._metric = None, "asking", 0
            self.ask("training", training_call(after.model), self._take_training,
                     otherwise=self._no_training)  # fmt: skip

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another circuit was found otherwise."""
        self._fill()

    def _take_circuits(self, found: tuple[CircuitSummary, ...]) -> None:
        self._found = found
        self._fill()

    def _take_training(self, found: TrainingCurvesShown) -> None:
        self._trained = found
        self._fill()

    def _no_training(self, error: CircuitError) -> None:
        self._trained_empty = error.message
        self._fill()

    # ------------------------------------------------------------------------------------ filling

    def _fill(self) -> None:
        pane = self.query_one("#plots-pane", Pane)
        pane.retitle(_TITLES[self._kind], self._note())
        is_lines = self._kind == "settings"
        self.query_one(ContentSwitcher).current = "settings" if is_lines else "curves"
        second = self.query_one("#second", Plot)
        second.set_class(self._kind == "curve", "-shown")
        loaded = self.circuit_app.loaded
        match self._kind:
            case "sizes":
                self._plot(sizes(self._found), "nodes", "loss, nats per side", True, False,
                           empty="no circuit of this task yet: press 6 and find one")  # fmt: skip
            case "curve":
                details = None if loaded is None else loaded.shown.details
                loss, kept = pruning(() if details is None else details.curve)
                self._plot(loss, "step", "loss, nats per side", False, False,
                           empty="nothing was written down of how it was found")  # fmt: skip
                second.show(kept, x_name="step", y_name="nodes kept", log_y=True, empty="")
            case "settings":
                lines = self.query_one(Lines)
                found = [] if loaded is None else settings_lines(loaded.shown)
                lines.styles.height = max(1, len(found))
                lines.show(found)
            case "training":
                series: list[Series] = []
                if self._trained is not None and (groups := metric_groups(self._trained)):
                    series = training(self._trained, groups[self._metric % len(groups)])
                self._plot(series, "step", "", False, False, empty=self._trained_empty)

    def _plot(
        self, series: list[Series], x: str, y: str, log_x: bool, log_y: bool, *, empty: str
    ) -> None:
        first = self.query_one("#first", Plot)
        is_new = (x, y) != self._axes
        self._axes = x, y
        first.show(
            series,
            x_name=x,
            y_name=y,
            log_x=log_x if is_new else None,
            log_y=log_y if is_new else None,
            empty=empty,
        )

    _axes: tuple[str, str] | None = None

    def _note(self) -> str:
        loaded = self.circuit_app.loaded
        match self._kind:
            case "sizes":
                return f"{len(self._found)} circuits of {self.scene.task or 'all tasks'}"
            case "training" if self._trained is not None:
                groups = metric_groups(self._trained)
                if groups:
                    at = self._metric % len(groups)
                    return f"{', '.join(groups[at])}  ({at + 1} of {len(groups)})"
                return self._trained.path
            case "curve" | "settings" if loaded is not None:
                return f"{loaded.shown.circuit.task}, k {loaded.shown.circuit.measured.k}"
            case _:
                return ""

    # ------------------------------------------------------------------------------------- acting

    def action_show_kind(self, kind: Kind) -> None:
        """Another plot."""
        self._kind = kind
        self.query_one("#first", Plot).leave()
        self._fill()
        self.query_one("#settings" if kind == "settings" else "#first").focus()

    def action_next_metric(self, by: int) -> None:
        """Other metrics of the training."""
        self._kind = "training"
        self._metric += by
        self._fill()

    def plain_text(self) -> str:
        """The points as a table, or the settings."""
        if self._kind == "settings":
            return self.query_one(Lines).text
        lines = []
        for series in self.query_one("#first", Plot).series:
            lines.append(series.name)
            pairs = zip(series.x.tolist(), series.y.tolist(), strict=True)
            lines += [f"{x:g}\t{y:g}" for x, y in pairs]
        return "\n".join(lines)

    def as_json(self) -> Any:
        """The series."""
        return [
            {"name": s.name, "x": s.x.tolist(), "y": s.y.tolist()}
            for s in self.query_one("#first", Plot).series
        ]

    def as_command(self) -> str:
        """The command that prints what is plotted."""
        model, loaded = self.scene.model or "", self.circuit_app.loaded
        match self._kind:
            case "training":
                return f"circuit models training {model}"
            case "sizes":
                task = f" --task {self.scene.task}" if self.scene.task else ""
                return f"circuit circuits list --model {model}{task}"
            case _:
                return "" if loaded is None else f"circuit circuits show {loaded.id}"

    def as_python(self) -> str:
        """The request for what is plotted."""
        model, loaded = self.scene.model, self.circuit_app.loaded
        head = "from circuit_client import connect\n\nwith connect() as c:\n"
        match self._kind:
            case "training":
                return f"{head}    print(c.models.training({model!r}).metrics)\n"
            case "sizes":
                asked = f"model={model!r}, task={self.scene.task!r}"
                return f"{head}    print(c.circuits.list({asked}))\n"
            case _:
                asked = "" if loaded is None else repr(loaded.id)
                return f"{head}    print(c.circuits.show({asked}))\n"

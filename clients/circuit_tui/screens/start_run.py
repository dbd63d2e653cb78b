"""The dialog that sets up a run; it ends with the request, or with nothing."""

from typing import Any, ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from circuit_client.call import Call
from circuit_client.verbs.jobs import detached
from circuit_protocol.errors import InvalidRequest
from circuit_tui.screens.page import Page
from circuit_tui.starting import Kind, fields, request
from circuit_tui.state import Scene
from circuit_tui.widgets.one_line import OneLine

_TITLES: Final[dict[Kind, str]] = {
    "prune": "Find circuits. This runs as a job: leaving does not stop it.",
    "verify": "Put a circuit to its controls. This runs as a job: leaving does not stop it.",
}


class StartRun(ModalScreen[Call[Any, Any] | None]):
    """A form with a line for each setting."""

    DEFAULT_CSS = """
    StartRun { align: center middle; background: $background 60%; }
    StartRun > Vertical { width: 76; max-width: 96%; height: auto; max-height: 96%;
        background: $panel; padding: 1 2; overflow-y: auto; }
    StartRun Grid { grid-size: 2; grid-columns: 17 1fr; grid-rows: 1; height: auto;
        margin: 1 0; }
    StartRun Label { color: $text-muted; }
    StartRun #hint { color: $text-muted; height: 1; }
    StartRun #problem { color: $text-error; height: auto; max-height: 3; }
    StartRun Button { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("ctrl+s", "start", "start", show=False),
        Binding("up", "app.focus_previous", "line above", show=False),
        Binding("down", "app.focus_next", "line below", show=False),
    ]

    def __init__(self, kind: Kind, scene: Scene) -> None:
        super().__init__()
        self._kind: Kind = kind
        self._scene = scene
        self._fields = fields(kind, scene)

    def compose(self) -> ComposeResult:
        """Names and lines."""
        with Vertical():
            yield Static(_TITLES[self._kind], markup=False)
            with Grid():
                for i, field in enumerate(self._fields):
                    yield Label(field.name)
                    yield OneLine(field.text, id=f"field-{i}")
            yield Static(id="hint", markup=False)
            yield Static(id="problem", markup=False)
            yield Button("start", id="start", variant="primary", compact=True)

    def on_descendant_focus(self) -> None:
        """Say what may be written in this line."""
        focused = self.focused
        hint = "enter starts; esc leaves"
        if isinstance(focused, Input) and focused.id is not None:
            hint = f"{self._fields[int(focused.id.rpartition('-')[2])].hint}; {hint}"
        self.query_one("#hint", Static).update(hint)

    @on(Input.Submitted)
    @on(Button.Pressed)
    def action_start(self) -> None:
        """End with the request, or say what it cannot mean."""
        given = {
            field.name: self.query_one(f"#field-{i}", Input).value
            for i, field in enumerate(self._fields)
        }
        try:
            self.dismiss(request(self._kind, self._scene, given))
        except InvalidRequest as e:
            parts = [e.message, e.found, e.hint]
            self.query_one("#problem", Static).update(": ".join(p for p in parts if p))

    def action_leave(self) -> None:
        """No run."""
        self.dismiss(None)


def start_run(page: Page, kind: Kind) -> None:
    """Ask for the settings, start the job, and go to where it is watched."""
    app = page.circuit_app

    def answered(call: Call[Any, Any] | None) -> None:
        if call is not None:
            app.link.ask(
                app, f"start {id(call)}", detached(call), accepted, what=f"starting {kind}"
            )

    def accepted(job: str) -> None:
        app.watched_job = job
        app.action_go("runs")
        if app.page is not None:
            app.page.refresh_page()

    app.push_screen(StartRun(kind, app.scene), answered)

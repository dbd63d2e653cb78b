"""What is shown while there is no daemon: why, and the offer to start one."""

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class NoDaemon(ModalScreen[bool]):
    """Ends with whether to start a daemon. Closed by the app if one appears meanwhile."""

    DEFAULT_CSS = """
    NoDaemon { align: center middle; background: $background 60%; }
    NoDaemon > Vertical { width: 66; max-width: 94%; height: auto; background: $panel;
        padding: 1 2; }
    NoDaemon Static { height: auto; margin-bottom: 1; }
    NoDaemon Horizontal { height: 1; }
    NoDaemon Button { margin-right: 2; }
    """
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "answer(False)", "wait"),
        Binding("left,right", "app.focus_next", "other", show=False),
    ]

    def __init__(self, text: str, *, can_start: bool) -> None:
        super().__init__()
        self._text, self._can_start = text, can_start

    def compose(self) -> ComposeResult:
        """The sentence and the choices."""
        with Vertical():
            yield Static(self._text, markup=False)
            with Horizontal():
                if self._can_start:
                    yield Button("Start a daemon", id="start", variant="primary", compact=True)
                yield Button("Wait for one", id="wait", compact=True)
                yield Button("Quit", id="quit", compact=True)

    @on(Button.Pressed)
    def choose(self, message: Button.Pressed) -> None:
        """Start, wait or leave."""
        if message.button.id == "quit":
            self.app.exit()
        else:
            self.dismiss(message.button.id == "start")

    def action_answer(self, is_yes: bool) -> None:
        """By key."""
        self.dismiss(is_yes)

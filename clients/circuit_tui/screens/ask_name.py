"""A dialog that asks for one line of text."""

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from circuit_tui.widgets.one_line import OneLine


class AskName(ModalScreen[str | None]):
    """Ends with the text, or None."""

    DEFAULT_CSS = """
    AskName { align: center middle; background: $background 60%; }
    AskName Vertical { width: 60; max-width: 90%; height: auto; background: $panel;
        padding: 1 2; }
    AskName OneLine { margin-top: 1; }
    AskName #hint { color: $text-muted; margin-top: 1; }
    """
    BINDINGS = [Binding("escape", "leave", "leave")]  # noqa: RUF012

    def __init__(self, question: str, text: str) -> None:
        super().__init__()
        self._question, self._text = question, text

    def compose(self) -> ComposeResult:
        """Question and line."""
        with Vertical():
            yield Static(self._question, markup=False)
            yield OneLine(self._text)
            yield Static("enter takes it, esc leaves", id="hint")

    @on(Input.Submitted)
    def answer(self, message: Input.Submitted) -> None:
        """Take it."""
        self.dismiss(message.value.strip() or None)

    def action_leave(self) -> None:
        """No answer."""
        self.dismiss(None)

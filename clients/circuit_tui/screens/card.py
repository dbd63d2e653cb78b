"""The card of the circuit: the verdict, its reasons, and every control with its numbers."""

from typing import Any, ClassVar

import msgspec
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll

from circuit_client.render.card import card_head, card_lines
from circuit_client.render.style import Line, Span
from circuit_tui.keys import bindings
from circuit_tui.loaded import Loaded
from circuit_tui.screens.page import Page
from circuit_tui.screens.start_run import start_run
from circuit_tui.views.spans import as_cells
from circuit_tui.widgets.lines import Lines

#: Lines of text are no longer than this, however wide the terminal is.
_COLUMNS_MAX = 110


class CardPage(Page):
    """Read the card."""

    PLACE = "card"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "Whether to believe the circuit. A verdict is supported, not supported, or depends on a "
        "choice that is named; below stand the reasons in sentences and every control: held-out "
        "loss, necessity, other ablations, random circuits of equal size, shuffled labels, random "
        "weights, a frozen norm, other seeds. v starts a verification as a job."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("card"))
    DEFAULT_CSS = "CardPage #card { padding: 1 2; height: 1fr; scrollbar-size-vertical: 1; }"

    def compose_page(self) -> ComposeResult:
        """The card, scrolled."""
        with VerticalScroll(id="card"):
            yield Lines(look=self.circuit_app.look, height=1, id="lines")

    def on_mount(self) -> None:
        """The arrows scroll at once."""
        super().on_mount()
        self.query_one("#card").focus()

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another circuit has another card."""
        self._fill(loaded)

    def on_resize(self, event: events.Resize) -> None:
        """Sentences are broken for the width there is."""
        self._fill(self.circuit_app.loaded)

    def _fill(self, loaded: Loaded | None) -> None:
        lines = self._lines(loaded, max(40, min(_COLUMNS_MAX, self.size.width - 6)))
        found = self.query_one(Lines)
        found.styles.height = len(lines)
        found.show(as_cells(lines))

    def _lines(self, loaded: Loaded | None, columns: int) -> list[Line]:
        if loaded is None:
            return [(Span("No circuit is chosen: press 1.", color="dim"),)]
        shown = loaded.shown
        head: list[Line] = [*card_head(shown), ()]
        if shown.card is None:
            return [
                *head,
                (Span("Nobody has put this circuit to its controls yet.", color="note"),),
                (Span("Press v to verify it; that runs as a job and takes minutes."),),
            ]
        plain = self.circuit_app.look.ascii_only
        return [*head, *card_lines(shown.card, columns=columns, ascii_only=plain)]

    def action_verify(self) -> None:
        """Set up a verification of this circuit."""
        start_run(self, "verify")

    def plain_text(self) -> str:
        """The card in lines."""
        return self.query_one(Lines).text

    def as_python(self) -> str:
        """The request for the circuit with its card."""
        loaded = self.circuit_app.loaded
        if loaded is None:
            return ""
        return (
            "from circuit_client import connect\n\n"
            "with connect() as c:\n"
            f"    card = c.circuits.show({loaded.id!r}).card\n"
            "    print(card.verdict, *card.reasons, sep='\\n')\n"
        )

    def as_command(self) -> str:
        """The command that prints the card."""
        loaded = self.circuit_app.loaded
        return "" if loaded is None else f"circuit circuits card {loaded.id}"

    def as_json(self) -> Any:
        """The card as it was stored."""
        loaded = self.circuit_app.loaded
        return None if loaded is None else msgspec.to_builtins(loaded.shown.card)

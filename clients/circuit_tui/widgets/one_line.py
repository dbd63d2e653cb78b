"""A line to write in: Textual's, with an end to how much can be pasted."""

from typing import Final

from textual import events
from textual.widgets import Input

#: Longer than any name, path or list of settings.
CHARACTERS_MAX: Final = 1_000


class OneLine(Input):
    """Text of one line, without a border. A longer paste is refused whole, with a sentence."""

    DEFAULT_CSS = """
    OneLine, OneLine:focus { border: none; height: 1; padding: 0 1; }
    OneLine { background: $surface; }
    OneLine:focus { background: $surface-lighten-2; }
    """

    def _on_paste(self, event: events.Paste) -> None:
        found = len(event.text)
        if found > CHARACTERS_MAX:
            event.prevent_default()
            event.stop()
            self.notify(
                f"This is too much text to paste: {found:,} characters where {CHARACTERS_MAX:,} "
                "have room.\nPaste the part that matters.",
                severity="error",
                markup=False,
            )

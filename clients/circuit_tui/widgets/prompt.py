"""The editor of a prompt: Textual's, with an end to how much can be pasted."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class Prompt(TextArea):
    """Text of at most `max_characters`: a longer paste is refused whole, with `Refused`."""

    DEFAULT_CSS = """
    Prompt { border: none; padding: 0 1; background: $panel; height: 1fr; }
    Prompt:focus { border: none; background: $panel; }
    """

    # Textual's editor selects with these; here they go to pages, as everywhere.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f6", "app.go('runs')", show=False),
        Binding("f7", "app.go('card')", show=False),
    ]

    class Refused(Message):
        """A paste was too long; nothing of it was taken."""

        def __init__(self, found: int, allowed: int) -> None:
            super().__init__()
            self.found = found
            self.allowed = allowed

    def __init__(self, *, max_characters: int, id: str | None = None) -> None:
        super().__init__(id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus")
        self._max_characters = max_characters

    async def _on_paste(self, event: events.Paste) -> None:
        found = len(self.text) - len(self.selected_text) + len(event.text)
        if found > self._max_characters:
            event.prevent_default()
            event.stop()
            self.post_message(self.Refused(found, self._max_characters))

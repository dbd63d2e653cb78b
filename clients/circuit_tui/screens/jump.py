"""Jump mode: a letter on every part that can have the keys; pressing it goes there."""

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

_LETTERS = "asdfghjklqwertyuiopzxcvbnm"


class Jump(ModalScreen[Widget | None]):
    """Ends with the widget that was named, or None."""

    DEFAULT_CSS = """
    Jump { background: $background 40%; layers: labels; }
    Jump Static { layer: labels; position: absolute; width: 3; height: 1;
        background: $block-cursor-background; color: $block-cursor-foreground;
        text-style: bold; }
    """

    def __init__(self, targets: list[Widget]) -> None:
        super().__init__()
        self._targets = dict(zip(_LETTERS, targets, strict=False))

    def compose(self) -> ComposeResult:
        """The letters, each at its part's corner."""
        for letter, target in self._targets.items():
            label = Static(f" {letter} ", markup=False)
            label.styles.offset = (target.region.x + 1, target.region.y)
            yield label

    def on_key(self, event: events.Key) -> None:
        """Go there, or leave."""
        event.stop()
        self.dismiss(self._targets.get(event.character or ""))

    def on_click(self) -> None:
        """Leave."""
        self.dismiss(None)

"""The line at the bottom: the keys that matter here, and always those for help and commands."""

from collections.abc import Callable
from typing import ClassVar, Final

from rich.style import Style
from textual import events
from textual.binding import ActiveBinding
from textual.screen import Screen

from circuit_client.render.text_width import width
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.keys import written
from circuit_tui.paint.look import Look

#: Ids of the bindings that are in sight however narrow the terminal is.
_ALWAYS: Final = ("app.help", "app.palette")


class KeyBar(CellCanvas):
    """Bindings of what has the keys; a click calls one."""

    DEFAULT_CSS = """
    KeyBar { height: 1; dock: bottom; background: $footer-background; }
    KeyBar > .key-bar--key { color: $footer-key-foreground; text-style: bold; }
    KeyBar > .key-bar--label { color: $footer-description-foreground; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-bar--key", "key-bar--label"}

    def __init__(self, *, look: Look) -> None:
        super().__init__(look=look, classes="painted")
        #: Where each shown binding begins and ends, and its action.
        self._places: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Hear of other bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._hear)

    def _hear(self, screen: Screen) -> None:
        if screen is self.screen:
            self.redraw()

    def _shown(self) -> list[ActiveBinding]:
        found: dict[str, ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show:
                found.setdefault(active.binding.action, active)
        return list(found.values())

    def draw(self, cells: Cells) -> None:
        """As many as fit, then what is always there."""
        shown = self._shown()
        always = [a for a in shown if a.binding.id in _ALWAYS]
        room = cells.width - sum(width(self._text(a)) for a in always)
        self._places = []
        x = 0
        for active in shown:
            if active.binding.id not in _ALWAYS and x + width(self._text(active)) <= room:
                x = self._put(cells, x, active)
        for active in always:
            x = self._put(cells, x, active)

    def _text(self, active: ActiveBinding) -> str:
        return f" {_key(active)} {active.binding.description} "

    def _put(self, cells: Cells, x: int, active: ActiveBinding) -> int:
        style: Callable[[str], Style] = lambda part: self.get_component_rich_style(  # noqa: E731
            f"key-bar--{part}", partial=True
        )
        begin = x
        x += cells.text(x, 0, f" {_key(active)}", self.ink(style("key")))
        x += cells.text(x, 0, f" {active.binding.description} ", self.ink(style("label")))
        self._places.append((begin, x, active.binding.action))
        return x

    async def on_click(self, event: events.Click) -> None:
        """Call what was clicked."""
        for begin, end, action in self._places:
            if begin <= event.x < end:
                focused = self.screen.focused or self.screen
                for node in focused.ancestors_with_self:
                    if await self.app.run_action(action, node):
                        return


def _key(active: ActiveBinding) -> str:
    return active.binding.key_display or written(active.binding.key)

"""Help for where one is: what the page shows, and every key that works here."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from circuit_client.render.text_width import pad
from circuit_tui.keys import PLACES, TABLE, written


class Help(ModalScreen[None]):
    """The help of one page. `places` are where its keys come from."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help VerticalScroll { width: 84; max-width: 96%; height: auto; max-height: 92%;
        background: $panel; padding: 1 2; }
    Help Static { height: auto; }
    Help .help--about { margin-bottom: 1; }
    """
    BINDINGS = [Binding("escape,question_mark,q", "leave", "close")]  # noqa: RUF012

    def __init__(self, title: str, about: str, places: tuple[str, ...]) -> None:
        super().__init__()
        self._title, self._about, self._places = title, about, places

    def compose(self) -> ComposeResult:
        """The text and the keys."""
        with VerticalScroll() as box:
            box.can_focus = True
            yield Static(f"{self._title}\n\n{self._about}", classes="help--about", markup=False)
            yield Static(self.keys_text(), markup=False)

    def keys_text(self) -> str:
        """The keys, place by place."""
        lines: list[str] = []
        for place in dict.fromkeys((*self._places, "app")):
            keys = [key for key in TABLE if key.where == place]
            if keys:
                lines += ["", PLACES.get(place, place)]
                lines += [f"  {pad(written(key.keys), 12)} {key.help}" for key in keys]
        return "\n".join(lines).strip("\n")

    def action_leave(self) -> None:
        """Back."""
        self.dismiss(None)

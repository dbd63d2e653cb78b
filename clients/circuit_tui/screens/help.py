"""Help for where one is: what the page shows, and every key that works here."""

from textwrap import wrap
from typing import Final

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from circuit_client.render.text_width import pad
from circuit_tui.keys import PLACES, TABLE, written

#: The column in which the sentences begin.
_HELP_FROM: Final = 15


class Help(ModalScreen[None]):
    """The help of one page. `places` are where its keys come from."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help VerticalScroll { width: 84; max-width: 96%; height: auto; max-height: 92%;
        background: $panel; padding: 1 2; }
    Help Static { height: auto; padding-right: 1; }
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
            # The box, its padding, and the scrollbar.
            columns = min(84, int(self.app.size.width * 0.96)) - 7
            yield Static(self.keys_text(columns), markup=False)

    def keys_text(self, columns: int = 76) -> str:
        """The keys, place by place, in so many columns."""
        lines: list[str] = []
        for place in dict.fromkeys((*self._places, "app")):
            keys = [key for key in TABLE if key.where == place]
            if keys:
                lines += ["", PLACES.get(place, place)]
                for key in keys:
                    first, *rest = wrap(key.help, columns - _HELP_FROM)
                    lines.append(f"  {pad(written(key.keys), _HELP_FROM - 3)} {first}")
                    lines += [" " * _HELP_FROM + line for line in rest]
        return "\n".join(lines).strip("\n")

    def action_leave(self) -> None:
        """Back."""
        self.dismiss(None)

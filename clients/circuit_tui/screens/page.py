"""What all screens have in common: the bar above, the keys below, and hearing of changes.

A page is shown what is: `show_scene` when the scene changed since it last saw it (also while it was
not on top), `show_link` when the link did. It never changes either itself: it asks the app with
`self.do(event)` and the daemon with `self.ask(...)`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget

from circuit_tui.effect import Effect
from circuit_tui.keys import bindings
from circuit_tui.link import LinkState
from circuit_tui.loaded import Loaded
from circuit_tui.state import Event, Scene
from circuit_tui.widgets.key_bar import KeyBar
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.too_small import TooSmall
from circuit_tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from circuit_client.call import Call
    from circuit_protocol.errors import CircuitError
    from circuit_tui.app import CircuitApp

E = TypeVar("E")
R = TypeVar("R")


#: In fewer columns or lines than these nothing can be read.
LEAST: Final = (40, 10)
#: Below so many columns panes become tabs; from so many on there is room to spare.
NARROW: Final = 100
VAST: Final = 160


class Page(Screen[None]):
    """One screen of the app."""

    #: Its place in `keys.TABLE`, and in the app's list of pages.
    PLACE: ClassVar[str] = ""
    #: What it is called in the bar and the help.
    TITLE_TEXT: ClassVar[str] = ""
    #: What it shows and what to do here, in a few sentences.
    HELP_TEXT: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("page"))
    #: Its panes by id, in the order that tab goes through, and their names.
    PANES: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._seen: Scene | None = None
        #: The circuit that was shown last, or why there was none.
        self._seen_circuit: tuple[Loaded | None, CircuitError | None] | None = None
        #: Whether its widgets are there to be shown something.
        self.is_ready = False

    @property
    def circuit_app(self) -> "CircuitApp":
        """The app, known to be ours."""
        from circuit_tui.app import CircuitApp

        assert isinstance(self.app, CircuitApp)
        return self.app

    @property
    def scene(self) -> Scene:
        """What is looked at."""
        return self.circuit_app.scene

    def compose(self) -> ComposeResult:
        """The bar, the page's own widgets, the keys."""
        yield TopBar(self.TITLE_TEXT, ascii_only=self.circuit_app.options.ascii)
        yield from self.compose_page()
        yield KeyBar(look=self.circuit_app.look)
        yield TooSmall(*LEAST)

    def compose_page(self) -> ComposeResult:
        """The page's own widgets."""
        yield from ()

    # -------------------------------------------------------------------------------- changes

    def on_mount(self) -> None:
        """Show what is."""
        self.is_ready = True
        self.refresh_page()

    def on_screen_resume(self) -> None:
        """Catch up with what changed meanwhile, the terminal's size included."""
        self._take_size(self.app.size)
        self.refresh_page()

    def on_resize(self, event: events.Resize) -> None:
        """Panes become tabs where there is no room for all of them."""
        self._take_size(event.size)

    def _take_size(self, size: Size) -> None:
        self.set_class(size.width < NARROW, "-narrow")
        self.set_class(size.width >= VAST, "-vast")
        self.set_class(size.width < LEAST[0] or size.height < LEAST[1], "-tiny")

    def refresh_page(self) -> None:
        """Show the link and, if it is another one than last seen, the scene."""
        if not self.is_ready:
            return
        app = self.circuit_app
        self.query_one(TopBar).show(app.scene, app.link.state, self.place_name())
        if self._seen is not app.scene:
            before, self._seen = self._seen, app.scene
            self.show_scene(before, app.scene)
        arrived = (app.loaded, app.load_error)
        if self._seen_circuit is None or any(
            a is not b for a, b in zip(arrived, self._seen_circuit, strict=True)
        ):
            self._seen_circuit = arrived
            self.show_circuit(app.loaded)
            self.show_effect(app.measuring.effect)

    def hear_link(self, before: LinkState, after: LinkState) -> None:
        """The link changed."""
        if not self.is_ready:
            return
        self.query_one(TopBar).show(self.scene, after, self.place_name())
        self.show_link(before, after)

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another scene than this page has shown."""

    def show_circuit(self, loaded: Loaded | None) -> None:
        """Another circuit has arrived, or more of it; None: none is here (yet)."""

    def show_effect(self, effect: Effect) -> None:
        """Another effect of what is switched."""

    def show_link(self, before: LinkState, after: LinkState) -> None:
        """Another state of the link."""

    def place_name(self) -> str:
        """What stands last in the bar's path."""
        return ""

    # ----------------------------------------------------------------------------------- asking

    def do(self, event: Event) -> None:
        """Change the scene."""
        self.circuit_app.do(event)

    def ask(
        self,
        slot: str,
        call: "Call[E, R]",
        then: Callable[[R], Any],
        *,
        what: str | None = None,
        during: Callable[[E], Any] | None = None,
        otherwise: "Callable[[CircuitError], Any] | None" = None,
    ) -> None:
        """Ask the daemon; the newest question of a slot wins. See `Link.ask`."""
        self.circuit_app.link.ask(
            self, slot, call, then, what=what, during=during, otherwise=otherwise
        )

    def drop(self, slot: str) -> None:
        """Cancel the question in a slot."""
        self.circuit_app.link.drop(self, slot)

    # ------------------------------------------------------------------------------------ panes

    def show_pane(self, pane: str, *, at_end: bool = False) -> None:
        """Bring a pane into sight, and give its first part the keys, or its last."""
        self._mark_active(pane)
        if parts := self._parts_of(pane):
            parts[-1 if at_end else 0].focus(scroll_visible=False)

    def _parts_of(self, pane: str) -> list[Widget]:
        """What of a pane takes keys, in its order."""
        widgets = self.query_one(f"#{pane}").walk_children(Widget)
        return [w for w in widgets if w.can_focus and _is_in_sight(w)]

    @on(PaneTabs.Picked)
    def pick_pane(self, message: PaneTabs.Picked) -> None:
        """A tab was clicked."""
        self.show_pane(message.pane)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The pane with the keys is the active one."""
        pane = next((n.id for n in event.widget.ancestors if isinstance(n, Pane)), None)
        if pane is not None:
            self._mark_active(pane)

    def _mark_active(self, pane: str) -> None:
        away: dict[Widget, bool] = {}
        for found in self.query(Pane):
            found.set_class(found.id == pane, "-active")
            if isinstance(found.parent, Vertical):
                away[found.parent] = away.get(found.parent, True) and found.id != pane
        for container, is_away in away.items():
            container.set_class(is_away, "-away")
        for tabs in self.query(PaneTabs):
            tabs.active = pane

    def action_next_pane(self, by: int) -> None:
        """The keys go to the next part of the pane, and from its last one to the next pane."""
        panes = list(self.PANES)
        if not panes:
            return
        active = next((p.id for p in self.query(Pane) if p.has_class("-active")), None)
        parts = [] if active is None else self._parts_of(active)
        part = parts.index(self.focused) + by if self.focused in parts else -1
        if 0 <= part < len(parts):
            parts[part].focus()
            return
        at = panes.index(active) if active in panes else -1
        self.show_pane(panes[(at + by) % len(panes)], at_end=by < 0)

    # ---------------------------------------------------------------------------------- sharing

    def plain_text(self) -> str:
        """What `copy` copies."""
        return ""

    def as_python(self) -> str:
        """Python that asks for what is on screen."""
        return ""

    def as_command(self) -> str:
        """The command that prints what is on screen."""
        return ""

    def as_json(self) -> Any:
        """The data that is on screen, as builtins."""
        return None


def _is_in_sight(widget: Widget) -> bool:
    """Whether nothing around a widget is hidden."""
    return all(w.display for w in widget.ancestors_with_self if isinstance(w, Widget))

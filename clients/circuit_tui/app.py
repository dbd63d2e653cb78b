"""The shell: pages, the scene they show, the link they ask through, and what works everywhere."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from circuit_tui.exporting import Exporting
from circuit_tui.keys import PLACES, TABLE, bindings, written
from circuit_tui.link import Link, LinkChanged, LinkState, Problem, SessionMoved
from circuit_tui.loaded import Loaded
from circuit_tui.measuring import Measuring
from circuit_tui.names import TokenNames
from circuit_tui.offering import OfferingDaemon
from circuit_tui.options import Options
from circuit_tui.paint.look import detect_look
from circuit_tui.saying import said, sentence
from circuit_tui.screens.page import Page
from circuit_tui.state import Adopt, Choose, Event, Scene, patch_between, step
from circuit_tui.themes import DARK, LIGHT, THEMES
from circuit_tui.typing_ahead import InOrder
from circuit_tui.wire import Wire, WireUpdate

if TYPE_CHECKING:
    from textual.widget import Widget

    from circuit_protocol.circuit_replies import CircuitShown
    from circuit_protocol.errors import CircuitError
    from circuit_protocol.replies import ModelDescription, TextPiece
    from circuit_tui.recorder import Recorder
    from circuit_tui.source import Source


def _catalogue() -> Page:
    from circuit_tui.screens.catalogue import Catalogue

    return Catalogue()


def _circuit() -> Page:
    from circuit_tui.screens.circuit import CircuitPage

    return CircuitPage()


def _node() -> Page:
    from circuit_tui.screens.node import NodePage

    return NodePage()


def _compare() -> Page:
    from circuit_tui.screens.compare import ComparePage

    return ComparePage()


def _text() -> Page:
    from circuit_tui.screens.text import TextPage

    return TextPage()


def _runs() -> Page:
    from circuit_tui.screens.runs import RunsPage

    return RunsPage()


def _card() -> Page:
    from circuit_tui.screens.card import CardPage

    return CardPage()


def _plots() -> Page:
    from circuit_tui.screens.plots import PlotsPage

    return PlotsPage()


def _channel() -> Page:
    from circuit_tui.screens.channel import ChannelPage

    return ChannelPage()


#: Every page by its place, imported when it is first gone to.
PAGES: Final[dict[str, Callable[[], Page]]] = {
    "catalogue": _catalogue,
    "circuit": _circuit,
    "node": _node,
    "compare": _compare,
    "text": _text,
    "runs": _runs,
    "card": _card,
    "plots": _plots,
    "channel": _channel,
}


class CircuitApp(InOrder, Exporting, OfferingDaemon):
    """The terminal UI."""

    TITLE = "circuit"
    CSS = """
    Page { background: $background; color: $foreground; }
    ToastRack { align-horizontal: right; }
    """
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("app"))
    MODES: ClassVar[dict[str, Any]] = dict(PAGES)
    DEFAULT_MODE = "catalogue"
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self, options: Options, connect: "Callable[[], Any] | None" = None, keymap: Any = None
    ) -> None:
        super().__init__()
        self.options = options
        self.scene = Scene()
        #: The circuit of the scene, once it has arrived; or why it cannot be had.
        self.loaded: Loaded | None = None
        self.load_error: CircuitError | None = None
        #: A job that was just started: the page of runs puts its cursor there.
        self.watched_job: str | None = None
        self.names = TokenNames()
        self._link_shown = LinkState()
        #: Pages that escape leads back to, the nearest last.
        self._came_from: list[str] = []
        self.measuring = Measuring(self)
        self.look = detect_look(os.environ, options.color, ascii_only=options.ascii)
        self.link = Link(
            self,
            connect or self._reach,
            options.session,
            lambda: patch_between(Scene(), self.scene),
        )
        #: Writes down what is asked, once there is somebody to ask, if that is wanted.
        self._recorder: Recorder | None = None
        # GNU screen is the one terminal where what is erased loses the colour behind it.
        self.wire = Wire(erases=not os.environ.get("TERM", "").startswith("screen"))
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = options.theme if options.theme in self.available_themes else _usual_theme()
        if options.calm:
            self.animation_level = "none"
        if keymap:
            self.set_keymap(keymap)

    async def _reach(self) -> "Source":
        from circuit_client.connecting import connect_async

        options = self.options
        if options.replay is not None:
            from circuit_tui.replay import Replay

            return Replay(options.replay)
        source = await connect_async(
            options.endpoint,
            key=options.key,
            server_key=options.server_key,
            start=False,
            timeout_s=5.0,
            client="circuit tui",
        )
        if options.record is not None and self._recorder is None:
            from circuit_tui.recorder import Recorder

            self._recorder = Recorder(options.record, source)
            self.link.asking = self._recorder.ask
        return source

    # ----------------------------------------------------------------------------- life and death

    def on_ready(self) -> None:
        """The first frame is painted: connect."""
        self.app_suspend_signal.subscribe(self, self._leave_terminal)
        self.app_resume_signal.subscribe(self, lambda _: self.action_repaint())
        self.link.open()
        if self.options.circuit is not None:
            self.open_circuit(self.options.circuit)

    async def on_unmount(self) -> None:
        """Hang up; jobs go on."""
        self._leave_terminal()
        await self.link.close()
        if self._recorder is not None:
            self._recorder.close()

    # ---------------------------------------------------------------------------------- the scene

    def do(self, event: Event) -> None:
        """Change the scene, show it, and tell the shared session."""
        before, self.scene = self.scene, step(self.scene, event)
        if self.scene is before:
            return
        if self.scene.circuit != before.circuit or self.scene.model != before.model:
            self._load()
        self.measuring.follow(self.loaded, self.scene.switched)
        if not isinstance(event, Adopt) and (patch := patch_between(before, self.scene)):
            self.link.share(patch)
        if self.page is not None:
            self.page.refresh_page()

    def _load(self) -> None:
        """Fetch the circuit that is looked at, and what its model says of heads and layers."""
        from circuit_client.verbs.circuits import show
        from circuit_client.verbs.models import describe

        scene, self.loaded, self.load_error = self.scene, None, None
        if scene.circuit is None:
            self.link.drop(self, "circuit")
            return

        def arrived(shown: "CircuitShown") -> None:
            if self.scene.circuit == scene.circuit:
                self.take_loaded(Loaded(shown))
                model = describe(shown.circuit.model)
                self.link.ask(self, "model", model, described, otherwise=absent)

        def described(model: "ModelDescription") -> None:
            if self.loaded is not None and self.loaded.shown.circuit.model == model.model:
                self.take_loaded(self.loaded.with_model(model))

        def absent(error: "CircuitError") -> None:
            if self.loaded is not None and self.scene.circuit == scene.circuit:
                self.take_loaded(self.loaded.without_model(sentence(error)))

        def failed(error: "CircuitError") -> None:
            self.load_error = error
            self.on_problem(Problem(error))
            if self.page is not None:
                self.page.refresh_page()

        call = show(scene.circuit, model=scene.model)
        self.link.ask(self, "circuit", call, arrived, what="reading the circuit", otherwise=failed)

    def learn_names(self, ids: "Iterable[int]", then: Callable[[], Any]) -> None:
        """Ask for the bytes of tokens that are not known yet, then call `then`."""
        model = self.scene.model
        if model is None:
            return
        missing = self.names.missing(model, ids)
        if not missing:
            return
        call, take = self.names.question(missing)

        def taken(pieces: "tuple[TextPiece, ...]") -> None:
            take(pieces)
            then()

        # Each question has a slot of its own: none may cancel another.
        slot = f"names {min(missing)} {len(missing)}"
        self.link.ask(self, slot, call, taken, otherwise=lambda _: None)

    def take_loaded(self, loaded: Loaded) -> None:
        """Show a circuit that has arrived."""
        self.loaded = loaded
        self.measuring.follow(loaded, self.scene.switched)
        if self.page is not None:
            self.page.refresh_page()

    def open_circuit(self, reference: str, model: str | None = None) -> None:
        """Choose a circuit by any of its names and go to its page."""
        from circuit_client.verbs.circuits import show

        def opened(shown: "CircuitShown") -> None:
            summary = shown.summary
            self.do(Choose(summary.model, summary.task, summary.id, summary.measured.k))
            if "circuit" in PAGES:
                self.action_go("circuit")

        self.link.ask(self, "open", show(reference, model=model), opened, what="opening")

    def on_session_moved(self, message: SessionMoved) -> None:
        """Follow the shared session, unless changes of our own are on their way to it."""
        if not self.link.is_sharing:
            self.do(Adopt(message.state))

    # ----------------------------------------------------------------------------------- the link

    def on_link_changed(self, message: LinkChanged) -> None:
        """Show how the link does."""
        before, self._link_shown = self._link_shown, message.state
        if not self.screen_stack:
            return  # the app is closing
        if self.page is not None and self.page.is_mounted:
            self.page.hear_link(before, message.state)
        self.offer_daemon(message.state)

    def on_problem(self, message: Problem) -> None:
        """Say what went wrong, what was found, and what to do."""
        text = "\n".join(said(message.error))
        self.notify(text, severity="error", timeout=8, markup=False)

    # -------------------------------------------------------------------------------------- actions

    def action_go(self, place: str) -> None:
        """To a page."""
        if place in PAGES and self.current_mode != place:
            self._came_from = [*(p for p in self._came_from if p != place), self.current_mode]
            self.switch_mode(place)

    def action_cancel(self) -> None:
        """Cancel what is waited for; else close a dialog; else back to the page before."""
        if self.link.drop_all():
            return
        if len(self.screen_stack) > 1:
            self.pop_screen()
        elif self._came_from:
            self.switch_mode(self._came_from.pop())

    def action_help(self) -> None:
        """What this page is, and its keys."""
        from circuit_tui.screens.help import Help

        page = self.page
        if page is None or len(self.screen_stack) > 1:
            return
        shown = {b.binding.id for b in page.active_bindings.values() if b.binding.id}
        places = tuple(p for p in PLACES if any(id.startswith(f"{p}.") for id in shown))
        own = sorted(places, key=lambda p: (p != page.PLACE, p == "app"))
        self.push_screen(Help(page.PLACE.capitalize(), page.HELP_TEXT, tuple(own)))

    def action_jump(self) -> None:
        """Letters on everything that takes keys."""
        from circuit_tui.screens.jump import Jump

        page = self.page
        if page is None or len(self.screen_stack) > 1:
            return
        targets = [w for w in page.focus_chain if w.region.area]
        self.push_screen(Jump(targets), self._jumped)

    def _jumped(self, target: "Widget | None") -> None:
        if target is not None:
            target.focus()

    def action_next_theme(self) -> None:
        """The next theme."""
        names = [theme.name for theme in THEMES]
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Send what differs from what the terminal shows; see `wire`."""
        is_sent = not (self._batch_count or self.is_headless or self._closed) and self._running
        if is_sent and isinstance(renderable, ChopsUpdate | LayoutUpdate):
            renderable = WireUpdate(renderable, self.wire, self.console)
            if not renderable.text and self.cursor_position == self._previous_cursor_position:
                renderable = None
        super()._display(screen, renderable)

    def action_repaint(self) -> None:
        """Paint all of it anew, whatever else wrote on the terminal."""
        self.wire.forget()
        self.refresh()

    def _leave_terminal(self, _: object = None) -> None:
        """Whoever writes next writes plainly."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(self.wire.leave())

    def watch_theme(self, theme: str) -> None:
        """Pictures have colours of their own for dark and for light backgrounds."""
        self.look = replace(self.look, theme="dark" if self.current_theme.dark else "light")
        for page in self.screen_stack:
            for painted in page.query(".painted"):
                painted.look = self.look  # pyright: ignore[reportAttributeAccessIssue]  # what is painted has one

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action that works here, with its key, for the command palette."""
        here = {"app", screen.PLACE if isinstance(screen, Page) else ""}
        for key in TABLE:
            if key.where in here and key.id != "app.palette":
                title = f"{key.label[:1].upper()}{key.label[1:]}  ({written(key.keys)})"
                yield SystemCommand(title, key.help, self._runner(key.action))

    def _runner(self, action: str) -> Callable[[], Any]:
        async def run() -> None:
            await self.run_action(action, self.page)

        return run


def _usual_theme() -> str:
    from circuit_client.render.style import detect_theme

    return LIGHT.name if detect_theme(os.environ) == "light" else DARK.name

"""Panes: parts of a page beside each other, or, where it is narrow, behind tabs.

A pane has a title line. On a narrow page only the active pane is in sight, and `PaneTabs` names
them all. Tab goes to the next pane on any page.
"""

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from circuit_client.render.text_width import truncate, width


class PaneTitle(Widget):
    """The line above a pane: its name, and a word about what is in it."""

    SCOPED_CSS = False  # how it looks depends on what is around it
    DEFAULT_CSS = """
    PaneTitle { height: 1; color: $text-muted; }
    Pane:focus-within > PaneTitle { color: $text-primary; text-style: bold; }
    PaneTitle > .pane-title--note { color: $text-muted; text-style: not bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"pane-title--note"}
    text: reactive[str] = reactive("")
    note: reactive[str] = reactive("")

    def render_line(self, y: int) -> Strip:
        """Name and note."""
        columns = self.size.width
        name = truncate(f" {self.text}", columns)
        segments = [Segment(name, self.rich_style)]
        if self.note:
            note = truncate(f"  {self.note}", max(0, columns - width(name)))
            segments.append(Segment(note, self.get_component_rich_style("pane-title--note")))
        return Strip(segments).adjust_cell_length(columns, self.rich_style)


class Pane(Vertical):
    """A part of a page under a title."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    Pane { width: 1fr; height: 1fr; }
    Page.-narrow Pane { display: none; }
    Page.-narrow Pane.-active { display: block; }
    Page.-narrow Pane > PaneTitle { display: none; }
    Page.-narrow .-away { display: none; }
    """

    def __init__(self, title: str, *children: Widget, id: str, classes: str | None = None) -> None:
        super().__init__(*children, id=id, classes=classes)
        self.title = title

    def compose(self) -> ComposeResult:
        """The title above what the pane was given."""
        title = PaneTitle()
        title.text = self.title
        yield title

    def on_mount(self) -> None:
        """The title stands first."""
        self.move_child(self.query_one(PaneTitle), before=0)

    def retitle(self, title: str, note: str = "") -> None:
        """Another name, and what is said beside it."""
        line = self.query_one(PaneTitle)
        line.text, line.note = title, note

    def note(self, text: str) -> None:
        """Say something beside the title."""
        self.query_one(PaneTitle).note = text


class PaneTabs(Widget):
    """The panes' names in a line, on narrow pages only."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    PaneTabs { height: 1; display: none; }
    Page.-narrow PaneTabs { display: block; }
    PaneTabs > .pane-tabs--active { color: $text-primary; text-style: bold reverse; }
    PaneTabs > .pane-tabs--other { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"pane-tabs--active", "pane-tabs--other"}
    active: reactive[str] = reactive("")

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, pane: str) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, panes: dict[str, str]) -> None:
        super().__init__()
        #: Id of each pane, and its name.
        self._panes = panes

    def render_line(self, y: int) -> Strip:
        """The names, the active one marked."""
        segments: list[Segment] = []
        for pane, name in self._panes.items():
            kind = "active" if pane == self.active else "other"
            text = f"[{name}]" if pane == self.active else f" {name} "
            segments.append(Segment(text, self.get_component_rich_style(f"pane-tabs--{kind}")))
            segments.append(Segment(" ", self.rich_style))
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style)

    def on_click(self, event: events.Click) -> None:
        """Go to the pane that was clicked."""
        x = 0
        for pane, name in self._panes.items():
            x += width(name) + 3
            if event.x < x:
                self.post_message(self.Picked(pane))
                return

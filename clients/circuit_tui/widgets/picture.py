"""The graph canvas with its keys: step from node to node, zoom, pan, fit.

A step moves the cursor at once. What else depends on the node (its edges in front, `Picked`, so the
pane beside the picture) follows when the cursor rests, or when a key acts on it: over a slow line
one walks through a graph without waiting for what one walks past.
"""

from typing import Any, ClassVar, Final

from textual.binding import BindingType
from textual.timer import Timer

from circuit_tui.canvas.graph_canvas import ZOOM, GraphCanvas
from circuit_tui.keys import bindings

#: The cursor rests after so long: longer than a held key takes to come again, and short enough
#: that an editor in the same session, which hears of where the cursor rests, follows it.
REST_S: Final = 0.12


class Picture(GraphCanvas):
    """A graph that the keyboard can walk."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings("picture"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: Runs while the cursor has not rested yet.
        self._resting: Timer | None = None

    def rest(self) -> int | None:
        """The node that the cursor has come to and not rested at yet."""
        if self._resting is None:
            return None
        self._resting.stop()
        self._resting = None
        self.select(self.selected)
        return self.selected

    def _rest(self) -> None:
        if (node := self.rest()) is not None:
            self.post_message(self.Picked(self, node, None))

    def action_step(self, dx: int, dy: int) -> None:
        """To the next node in a direction."""
        node = self.neighbour(dx, dy)
        if node is None:
            return
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(REST_S, self._rest)
        self.select(node, is_passing=True)

    def action_zoom(self, steps: int) -> None:
        """In or out."""
        self.zoom(ZOOM**steps)

    def action_pan(self, columns: int, rows: int) -> None:
        """Move the view."""
        self.pan(columns, rows)

    def action_fit(self) -> None:
        """See all."""
        self.fit()

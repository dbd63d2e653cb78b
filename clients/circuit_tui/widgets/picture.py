"""The graph canvas with its keys: step from node to node, zoom, pan, fit.

A step moves the cursor at once. What else depends on the node (its edges in front, `Picked`, so the
pane beside the picture) follows when the cursor rests, or when a key acts on it: over a slow line
one walks through a graph without waiting for what one walks past.
"""

from typing import Any, ClassVar

from textual.binding import BindingType

from circuit_tui.canvas.graph_canvas import ZOOM, GraphCanvas
from circuit_tui.keys import bindings
from circuit_tui.widgets.resting import Resting


class Picture(GraphCanvas):
    """A graph that the keyboard can walk."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings("picture"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._resting = Resting(self, self._rest)

    def rest(self) -> int | None:
        """The node that the cursor has come to and not rested at yet."""
        if not self._resting.end():
            return None
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
        self._resting.moved()
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

"""The graph canvas with its keys: step from node to node, zoom, pan, fit."""

from typing import ClassVar

from textual.binding import BindingType

from circuit_tui.canvas.graph_canvas import ZOOM, GraphCanvas
from circuit_tui.keys import bindings


class Picture(GraphCanvas):
    """A graph that the keyboard can walk."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings("picture"))

    def action_step(self, dx: int, dy: int) -> None:
        """To the next node in a direction."""
        self.step(dx, dy)

    def action_zoom(self, steps: int) -> None:
        """In or out."""
        self.zoom(ZOOM**steps)

    def action_pan(self, columns: int, rows: int) -> None:
        """Move the view."""
        self.pan(columns, rows)

    def action_fit(self) -> None:
        """See all."""
        self.fit()

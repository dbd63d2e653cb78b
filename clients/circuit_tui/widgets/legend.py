"""What colours mean, on one line: the scale's ends, its steps, and its unit."""

from rich.style import Style

from circuit_client.render.heat import Scale, number
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, heat


class HeatLegend(CellCanvas):
    """The legend of a `Scale`; a line high, as wide as there is room."""

    DEFAULT_CSS = "HeatLegend { width: 1fr; height: 1; }"

    def __init__(
        self,
        scale: Scale | None = None,
        *,
        look: Look | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(look=look, name=name, id=id, classes=classes)
        self._scale = scale

    def show(self, scale: Scale | None) -> None:
        """Show what another scale means; None empties the line."""
        self._scale = scale
        self.redraw()

    def draw(self, cells: Cells) -> None:
        """The ends as numbers, and as many steps between them as fit."""
        scale, colors = self._scale, heat(self.look)
        if scale is None:
            return
        quiet = self.ink(dim(self.look))
        unit = f" {scale.unit}" if scale.unit else ""
        if scale.limit <= 0:
            cells.text(0, 0, f"all zero{unit}", quiet)
            return
        two_sided = scale.kind == "diverging"
        begin = f"-{number(scale.limit)} " if two_sided else "0 "
        end = f" {number(scale.limit)}{unit}"
        if self.look.few_colors:
            steps = [-9, -6, -3, 0, 3, 6, 9] if two_sided else [3, 6, 9]
            each = 4 if two_sided else 3
        else:
            lowest = -colors.levels if two_sided else 0
            room = max(3, cells.width - len(begin) - len(end))
            n = min(room, colors.levels - lowest + 1, 41)
            steps = [round(lowest + (colors.levels - lowest) * i / (n - 1)) for i in range(n)]
            each = 1
        x = cells.text(0, 0, begin, quiet)
        for level in steps:
            text = " " * each
            if self.look.few_colors:
                text = (colors.sign(level, signed=two_sided) or "0").center(each)
            style = colors.background(level)
            if level == 0 and not self.look.few_colors:
                text, style = ("." if self.look.ascii_only else "·") * each, dim(self.look)
            x += cells.text(x, 0, text, self.ink(style + Style()))
        cells.text(x, 0, end, quiet)

"""A few lines of styled text that sends only the cells which changed."""

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.style import Style

from circuit_client.render.text_width import truncate, width
from circuit_tui.canvas.cells import Cells
from circuit_tui.canvas.widget import CellCanvas
from circuit_tui.paint.glyphs import glyphs
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import dim, heat
from circuit_tui.views.table import Cell

_TONES: Final = ("strong", "dim", "good", "bad", "note")
TextLine = Sequence[Cell]


class Lines(CellCanvas):
    """Shows lines of cells, one after the other without gaps."""

    DEFAULT_CSS = """
    Lines { height: auto; }
    Lines > .lines--strong { text-style: bold; }
    Lines > .lines--dim { color: $text-muted; }
    Lines > .lines--good { color: $text-success; }
    Lines > .lines--bad { color: $text-error; }
    Lines > .lines--note { color: $text-accent; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines--{tone}" for tone in _TONES}

    def __init__(
        self, *, look: Look, height: int, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(look=look, id=id, classes=f"painted {classes or ''}")
        self._lines: Sequence[TextLine] = ()
        self.styles.height = height

    def show(self, lines: Sequence[TextLine]) -> None:
        """Show other lines."""
        self._lines = lines
        self.redraw()

    @property
    def text(self) -> str:
        """What is shown, as plain text."""
        return "\n".join("".join(cell.text for cell in line).rstrip() for line in self._lines)

    def draw(self, cells: Cells) -> None:
        """The lines, as far as there is room."""
        mark = glyphs(self.look).ellipsis
        for y, line in enumerate(self._lines[: cells.height]):
            x = 0
            for cell in line:
                text = truncate(cell.text, cells.width - x, ellipsis=mark)
                cells.text(x, y, text, self.ink(self._style(cell)))
                x += width(cell.text)
                if x >= cells.width:
                    break

    def _style(self, cell: Cell) -> Style:
        if cell.level is not None:
            return heat(self.look).nine(cell.level)
        if cell.tone == "plain":
            return Style.null()
        # The theme\'s is a share of what lies behind, which cells do not know.
        if cell.tone == "dim":
            return dim(self.look)
        style = self.get_component_rich_style(f"lines--{cell.tone}", partial=True)
        return Style(color=style.color, bold=style.bold)

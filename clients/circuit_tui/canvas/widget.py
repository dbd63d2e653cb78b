"""A widget whose picture is drawn into cells, and which sends only the cells that changed."""

from rich.style import Style
from textual import events
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from circuit_tui.canvas.cells import Cells, Inks, changed_regions
from circuit_tui.paint.glyphs import ASCII_TWINS
from circuit_tui.paint.look import Look


class CellCanvas(Widget):
    """Draws by `draw`, whenever `redraw` is called, the size changes or the look does.

    Subclasses keep what they show as values, fill the cells in `draw`, and call `redraw` after
    every change: what it costs on the wire is decided by what the picture says, not by who called.
    """

    look: reactive[Look] = reactive(Look(), init=False)

    def __init__(
        self,
        *,
        look: Look | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.inks = Inks()
        self._cells = Cells(0, 0)
        if look is not None:
            self.set_reactive(CellCanvas.look, look)

    def draw(self, cells: Cells) -> None:
        """Fill blank cells of the widget's size with the picture."""
        # Textual has a metaclass of its own, so a widget cannot be an ABC.
        raise NotImplementedError

    @property
    def cells(self) -> Cells:
        """The picture as it was drawn last."""
        return self._cells

    def redraw(self) -> None:
        """Draw again, and refresh the regions that came out differently."""
        width, height = self.size
        cells = Cells(width, height)
        if width and height:
            self.draw(cells)
            if self.look.ascii_only:
                cells.to_ascii(ASCII_TWINS)
        regions = changed_regions(self._cells, cells)
        self._cells = cells
        if regions:
            self.refresh(*regions)

    def ink(self, style: Style) -> int:
        """The number of a style, for drawing."""
        return self.inks.number(style)

    def watch_look(self) -> None:
        """Other colours or glyphs: nothing of the old picture holds."""
        self.inks = Inks()
        self._cells = Cells(0, 0)
        self.redraw()

    def on_resize(self, event: events.Resize) -> None:
        """Draw for the new size."""
        self.redraw()

    def on_show(self, event: events.Show) -> None:
        """Draw what changed while nobody looked."""
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """One line of the picture on the widget's background."""
        if self._cells.width != self.size.width or y >= self._cells.height:
            return Strip.blank(self.size.width, self.rich_style)
        return self._cells.strip(y, self.inks).apply_style(self.rich_style)

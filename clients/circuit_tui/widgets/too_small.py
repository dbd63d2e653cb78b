"""What stands in place of a page in a terminal too small for one."""

from textual.widgets import Static


class TooSmall(Static):
    """A sentence that fits anywhere, in sight only on a tiny page."""

    SCOPED_CSS = False  # the page around it decides
    DEFAULT_CSS = """
    TooSmall { display: none; width: 1fr; height: 1fr; }
    Page.-tiny > * { display: none !important; }
    Page.-tiny > TooSmall { display: block !important; }
    """

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(markup=False)
        self._least = f"{columns} by {lines}"

    def render(self) -> str:
        """What there is, and what to do."""
        columns, lines = self.app.size
        return (
            f"This terminal has {columns} by {lines} cells, too few to read anything in: make it "
            f"{self._least} or more. ctrl+d quits."
        )

"""The app's actions that take away what is on screen: copies, in three forms, and exports."""

import os
from pathlib import Path

from textual.app import App

from circuit_client.as_json import indented
from circuit_protocol.errors import CircuitError
from circuit_tui.link import Problem
from circuit_tui.screens.ask_name import AskName
from circuit_tui.screens.page import Page
from circuit_tui.sharing import default_name, keep_copy, osc52, write_export
from circuit_tui.state import Scene


class Exporting(App[None]):
    """An app whose page can be copied and exported."""

    scene: Scene

    @property
    def page(self) -> Page | None:
        """The page in sight, also where a dialog lies on it."""
        return next((s for s in reversed(self.screen_stack) if isinstance(s, Page)), None)

    def action_copy(self, what: str) -> None:
        """To the clipboard, and into a file for terminals that take no OSC 52."""
        page = self.page
        if page is None:
            return
        copies = {"text": page.plain_text, "python": page.as_python, "command": page.as_command}
        text = copies[what]()
        if not text.strip():
            self.notify("There is nothing to copy here yet.", severity="warning")
            return
        sequence = osc52(text, os.environ)
        if sequence is not None and self._driver is not None:
            self._driver.write(sequence)
        path = keep_copy(text)
        kept = f", also in {path}" if path else ""
        first = text.strip().splitlines()[0][:60]
        self.notify(f"Copied {first}{kept}", markup=False, timeout=4)

    def action_export(self) -> None:
        """Ask for a file: its ending says what is written."""
        page, scene = self.page, self.scene
        if page is not None and len(self.screen_stack) == 1:
            k = None if scene.k is None else str(scene.k)
            name = default_name(page.PLACE, (scene.task, k))
            question = "Export to which file? Its ending says what: .svg, .txt or .json"
            self.push_screen(AskName(question, name), self._export)

    def _export(self, name: str | None) -> None:
        page = self.page
        if not name or page is None:
            return
        path = Path(name).expanduser()
        match path.suffix.lower():
            case ".json":
                text = indented(page.as_json())
            case ".txt":
                text = page.plain_text() + "\n"
            case _:
                text = self.export_screenshot(title=f"circuit: {page.PLACE}")
        try:
            written_to = write_export(path, text)
        except CircuitError as e:
            self.post_message(Problem(e))
            return
        self.notify(f"Wrote {written_to}", markup=False)

"""Running the terminal UI: the terminal's colours first, then Textual, then the app."""

import os
import sys
from typing import Final

from circuit_tui.options import Options

_COLOR_SYSTEMS: Final = {"truecolor": "truecolor", "256": "256", "16": "standard"}


def run(options: Options) -> int:
    """Run until the user leaves; the exit code."""
    if not sys.stdout.isatty():
        print("circuit: the terminal UI needs a terminal", file=sys.stderr)  # noqa: T201
        return 2
    # Textual reads these when it is imported.
    if options.color in _COLOR_SYSTEMS:
        os.environ["TEXTUAL_COLOR_SYSTEM"] = _COLOR_SYSTEMS[options.color]
    elif options.color == "none":
        os.environ["NO_COLOR"] = "1"
    if options.calm:
        os.environ["TEXTUAL_ANIMATIONS"] = "none"
    from circuit_tui.keys import read_keymap

    keymap = None if options.keys is None else read_keymap(options.keys)
    from circuit_tui.app import CircuitApp

    app = CircuitApp(options, keymap=keymap)
    app.run()
    return app.return_code or 0

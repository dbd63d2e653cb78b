"""Running the terminal UI: a first frame, the terminal's colours, then Textual, then the app."""

import os
import sys
from typing import Final

from circuit_tui.options import Options
from circuit_tui.splash import show_splash, take_back

_COLOR_SYSTEMS: Final = {"truecolor": "truecolor", "256": "256", "16": "standard"}


def run(options: Options) -> int:
    """Run until the user leaves; the exit code."""
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        from circuit_protocol.errors import InvalidRequest

        raise InvalidRequest(
            "the terminal UI needs a terminal", found="a pipe or a file",
            hint="`circuit circuits show CIRCUIT` prints what it shows; over SSH, use `ssh -t`",
        )  # fmt: skip
    _check_recordings(options)
    if options.keys is None:
        show_splash(ascii_only=options.ascii)
    try:
        # Textual reads these when it is imported.
        if options.color in _COLOR_SYSTEMS:
            os.environ["TEXTUAL_COLOR_SYSTEM"] = _COLOR_SYSTEMS[options.color]
        elif options.color == "none":
            os.environ["NO_COLOR"] = "1"
        if options.calm:
            os.environ["TEXTUAL_ANIMATIONS"] = "none"
        from circuit_tui.app import CircuitApp
        from circuit_tui.keys import read_keymap

        if options.ascii:
            from circuit_tui.paint.scrollbars import use_plain_bars

            use_plain_bars()
        keymap = None if options.keys is None else read_keymap(options.keys)
        app = CircuitApp(options, keymap=keymap)
    except BaseException:
        take_back()
        raise
    app.run()
    return app.return_code or 0


def _check_recordings(options: Options) -> None:
    """Raise NotFound, InvalidRequest or Conflict now, and not on the screen."""
    if options.replay is not None:
        from circuit_tui.recording import read_recording

        read_recording(options.replay)
    if options.record is not None and options.record.exists():
        from circuit_protocol.errors import Conflict

        raise Conflict(
            "a recording is not written over another file",
            asked=str(options.record),
            hint="Name a new file",
        )

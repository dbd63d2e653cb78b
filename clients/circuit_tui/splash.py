"""The first frame, painted before Textual is imported: over SSH a blank screen is a long time.

It is the top bar as the app will paint it itself a moment later, so nothing jumps.
"""

import os
import sys
from typing import Final

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"


def splash(columns: int, *, ascii_only: bool) -> str:
    """The bytes of the first frame."""
    left = " circuit"
    right = f"{'*' if ascii_only else '●'} connecting "
    gap = " " * max(1, columns - len(left) - len(right))
    return f"{_ENTER}\x1b[1m{left}\x1b[0m{gap}\x1b[2m{right}\x1b[0m"


def show_splash(*, ascii_only: bool) -> None:
    """Paint it."""
    columns = os.get_terminal_size(sys.stdout.fileno()).columns
    sys.stdout.write(splash(columns, ascii_only=ascii_only))
    sys.stdout.flush()


def take_back() -> None:
    """Leave the screen as it was, when the app cannot take over."""
    sys.stdout.write(LEAVE)
    sys.stdout.flush()

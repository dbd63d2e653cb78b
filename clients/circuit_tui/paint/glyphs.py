"""The characters that pictures are made of, each with a twin in ASCII.

No glyph here is of ambiguous width or taken from a private font: terminals and tmux agree that each
is one column wide.
"""

import dataclasses
from dataclasses import dataclass
from typing import Final

from circuit_tui.paint.look import Look


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of glyphs. Names say what a glyph means, not how it looks."""

    node: str
    selected_node: str
    closed_node: str
    important: str
    yes: str
    no: str
    unknown: str
    running: str
    waiting: str
    cut: str
    up: str
    down: str
    left: str
    right: str
    ellipsis: str
    bullet: str
    separator: str
    #: A frame around the strongest of several, and around what the cursor is on.
    strongest: tuple[str, str]
    #: Lines of axes and trees.
    horizontal: str
    vertical: str
    corner: str
    tick_left: str
    tick_down: str
    branch: str
    last_branch: str
    #: A share from nothing to all, in as many steps as there are characters.
    bars: str
    columns: str
    upper_half: str
    lower_half: str
    full: str
    #: One for each series of a plot, so that none is told by colour alone.
    marks: str
    cursor: str
    minus: str


_UNICODE = Glyphs(
    node="●",
    selected_node="◉",
    closed_node="○",
    important="◆",
    yes="✓",
    no="✗",
    unknown="·",
    running="▸",
    waiting="…",
    cut="╳",
    up="↑",
    down="↓",
    left="←",
    right="→",
    ellipsis="…",
    bullet="•",
    separator="·",
    strongest=("⟦", "⟧"),
    horizontal="─",
    vertical="│",
    corner="└",
    tick_left="┤",
    tick_down="┬",
    branch="├",
    last_branch="└",
    bars=" ▏▎▍▌▋▊▉█",
    columns=" ▁▂▃▄▅▆▇█",
    upper_half="▀",
    lower_half="▄",
    full="█",
    marks="●■▲◆○□△◇",
    cursor="┊",
    minus="−",
)
_ASCII = Glyphs(
    node="o",
    selected_node="@",
    closed_node=".",
    important="*",
    yes="+",
    no="x",
    unknown="?",
    running=">",
    waiting=".",
    cut="x",
    up="^",
    down="v",
    left="<",
    right=">",
    ellipsis="~",
    bullet="*",
    separator="|",
    strongest=("[", "]"),
    horizontal="-",
    vertical="|",
    corner="+",
    tick_left="+",
    tick_down="+",
    branch="|",
    last_branch="`",
    bars=" .:-=+*#@",
    columns=" .:-=+*#@",
    upper_half="#",
    lower_half="_",
    full="#",
    marks="*o+x#@%&",
    cursor=":",
    minus="-",
)


def _twins() -> dict[str, str]:
    fields = (getattr(_UNICODE, f.name) for f in dataclasses.fields(Glyphs))
    others = (getattr(_ASCII, f.name) for f in dataclasses.fields(Glyphs))
    signs = dict(
        pair
        for some, same in zip(fields, others, strict=True)
        for pair in zip("".join(some), "".join(same), strict=False)
    )
    return {"×": "x", "“": '"', "”": '"'} | signs


#: For text that was made without asking `glyphs`: each sign's character in ASCII.
ASCII_TWINS: Final[dict[str, str]] = _twins()


def glyphs(look: Look) -> Glyphs:
    """The glyphs that this look allows."""
    return _ASCII if look.ascii_only else _UNICODE


def bar(share: float, columns: int, look: Look) -> str:
    """A bar of `columns` columns, filled from the left by `share` (clipped to 0 to 1)."""
    steps = glyphs(look).bars
    full = glyphs(look).full
    share = min(1.0, max(0.0, share)) if share == share else 0.0
    if look.ascii_only:
        done = round(share * columns)
        return full * done + " " * (columns - done)
    eighths = round(share * columns * (len(steps) - 1))
    whole, rest = divmod(eighths, len(steps) - 1)
    text = full * whole + (steps[rest] if rest else "")
    return text + " " * (columns - len(text))

"""How this terminal shows things: its colours, its background, and whether it has only ASCII."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from circuit_client.render.style import Depth, Theme, detect_depth, detect_theme

#: What a user may ask for; "auto" is what the environment says.
DepthChoice = Literal["auto", "truecolor", "256", "16", "none"]

_COLOR_SYSTEMS: dict[Depth, str | None] = {
    "truecolor": "truecolor",
    "256": "256",
    "16": "standard",
    "none": None,
}


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that colours and glyphs depend on. Widgets take one and keep none of their own."""

    depth: Depth = "truecolor"
    theme: Theme = "dark"
    ascii_only: bool = False

    @property
    def few_colors(self) -> bool:
        """Whether colour alone cannot carry a number, so that digits stand beside it."""
        return self.depth in ("16", "none")

    @property
    def color_system(self) -> str | None:
        """The name that a Rich console gives this depth; None for no colour at all."""
        return _COLOR_SYSTEMS[self.depth]


def detect_look(
    environment: Mapping[str, str], choice: DepthChoice = "auto", *, ascii_only: bool = False
) -> Look:
    """The look of the terminal that `environment` describes, unless `choice` says otherwise.

    COLORTERM does not travel over SSH: a truecolor terminal looks like one of 256 colours there,
    and only `choice` can say more. Only a Linux console and terminals without a UTF-8 locale are
    taken to have nothing but ASCII.
    """
    depth = detect_depth(
        environment, is_terminal=True, choice="never" if choice == "none" else choice
    )
    return Look(depth, detect_theme(environment), ascii_only or not _has_unicode(environment))


def _has_unicode(environment: Mapping[str, str]) -> bool:
    if environment.get("TERM") in ("linux", "vt100", "vt220", "dumb"):
        return False  # the console's font has neither braille nor half blocks
    locale = next(
        (v for name in ("LC_ALL", "LC_CTYPE", "LANG") if (v := environment.get(name))), None
    )
    # Containers and `ssh host command` often have no locale set at all while the terminal is fine.
    return locale is None or locale in ("C", "POSIX") or "utf" in locale.lower()

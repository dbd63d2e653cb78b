"""What `circuit tui` may be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

#: How many colours to use; "none" says everything with signs.
ColorChoice = Literal["auto", "truecolor", "256", "16", "none"]
#: The session that terminal UIs share unless told otherwise.
DEFAULT_SESSION: Final = "tui"


@dataclass(frozen=True, slots=True)
class Options:
    """One run of the terminal UI. The defaults are those of `circuit tui` alone."""

    #: ipc://PATH or tcp://HOST:PORT; None: $CIRCUIT_ENDPOINT, else the daemon that runs here.
    endpoint: str | None = None
    key: str | None = None
    server_key: str | None = None
    #: Whoever attaches to the same session sees the same model, circuit, node and switches.
    session: str = DEFAULT_SESSION
    #: A circuit to open at once: an id, the beginning of one, or task/sweep/label.
    circuit: str | None = None
    #: Nothing beyond ASCII on the screen.
    ascii: bool = False
    #: No animation, no flashing, fewer updates: for slow lines and quiet eyes.
    calm: bool = False
    color: ColorChoice = "auto"
    theme: str | None = None
    #: Play a recorded session instead of connecting.
    replay: Path | None = None
    #: Write what the daemon says to this file, for `replay`.
    record: Path | None = None
    #: A file of other keys: TOML, `binding = "key,key"`.
    keys: Path | None = None

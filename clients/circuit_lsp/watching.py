"""When a document is read: a plain state machine, told what happened, saying what to do.

Off until asked. An edit ends what is being computed and starts the wait for quiet; whatever answers
too late is nobody's. Without a daemon nothing is tried, and that is said once. It has no clock and
does no I/O: `workbench` carries out its orders.
"""

from dataclasses import dataclass
from typing import Literal

from circuit_lsp.messages.documents import HeatChoice

#: `settling`: waits for quiet. `reading`: is being computed. `failed`: could not be.
Phase = Literal["off", "away", "settling", "reading", "fresh", "failed"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Tell `due(ticket)` after `seconds`."""

    ticket: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """Compute the heat of the document as it is now, then tell `answered` or `failed`."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Whatever is being computed or waited for is not wanted any longer."""


@dataclass(frozen=True, slots=True)
class Say:
    """The editor should know the phase: there is fresh heat, or none any more."""


Order = Wait | Read | Stop | Say


class Watch:
    """One document. Every event returns the orders that follow from it."""

    def __init__(self, choice: HeatChoice, *, is_up: bool) -> None:
        self.choice = choice
        self.phase: Phase = "off"
        self._is_up = is_up
        #: Names the wait or the computation in progress; what comes back under another one is late.
        #: Invariant: it grows with every order to wait or to read.
        self._ticket = 0
        #: Whether what is read follows an edit, after which editors ask by themselves.
        self.by_edit = False

    @property
    def is_on(self) -> bool:
        """Whether heat was asked for."""
        return self.phase != "off"

    def turned_on(self, choice: HeatChoice | None = None) -> list[Order]:
        """Heat is wanted, of `choice` if that is given."""
        if choice is not None:
            self.choice = choice
        self.by_edit = False
        return self._read_now()

    def turned_off(self) -> list[Order]:
        """Heat is not wanted."""
        if self.phase == "off":
            return []
        return self._leave("off")

    def edited(self, debounce_s: float) -> list[Order]:
        """The text changed."""
        if self.phase in ("off", "away"):
            return []
        self.by_edit = True
        return self._wait(debounce_s)

    def moved(self, debounce_s: float) -> list[Order]:
        """The cursor left what was read of a long document."""
        if self.phase not in ("fresh", "failed"):
            return []  # what is being waited for will see to it
        self.by_edit = False
        return self._wait(debounce_s)

    def outdated(self) -> list[Order]:
        """The text is the same, but the model, the session or what is asked of them is not."""
        if self.phase in ("off", "away"):
            return []
        self.by_edit = False
        return self._read_now()

    def due(self, ticket: int) -> list[Order]:
        """A wait is over."""
        if self.phase != "settling" or ticket != self._ticket:
            return []
        return self._read_now()

    def answered(self, ticket: int) -> bool:
        """A computation is done; whether its answer is wanted still."""
        if self.phase != "reading" or ticket != self._ticket:
            return False
        self.phase = "fresh"
        return True

    def failed(self, ticket: int) -> bool:
        """A computation failed; whether that is of interest."""
        if self.phase != "reading" or ticket != self._ticket:
            return False
        self.phase = "failed"
        return True

    def went_away(self) -> list[Order]:
        """There is no daemon any more."""
        self._is_up = False
        if self.phase in ("off", "away"):
            return []
        return self._leave("away")

    def came_up(self) -> list[Order]:
        """There is a daemon (again)."""
        self._is_up = True
        self.by_edit = False
        return self._read_now() if self.phase == "away" else []

    def _read_now(self) -> list[Order]:
        if not self._is_up:
            is_news = self.phase != "away"
            self.phase = "away"
            return [Say()] if is_news else []
        self._ticket += 1
        self.phase = "reading"
        return [Stop(), Read(self._ticket)]

    def _wait(self, seconds: float) -> list[Order]:
        self._ticket += 1
        self.phase = "settling"
        return [Stop(), Wait(self._ticket, seconds)]

    def _leave(self, phase: Literal["off", "away"]) -> list[Order]:
        self._ticket += 1
        self.by_edit = False
        self.phase = phase
        return [Stop(), Say()]

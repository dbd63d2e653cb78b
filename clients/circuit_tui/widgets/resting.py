"""When a cursor has come to rest: what costs more than the cursor itself follows only then."""

from collections.abc import Callable
from typing import Final

from textual.timer import Timer
from textual.widget import Widget

#: The cursor rests after so long: longer than a held key takes to come again, and short enough
#: that an editor in the same session, which hears of where the cursor rests, follows it.
REST_S: Final = 0.12


class Resting:
    """Calls `rested` when the cursor of `widget` has not moved for a while."""

    def __init__(self, widget: Widget, rested: Callable[[], None]) -> None:
        self._widget, self._rested = widget, rested
        self._timer: Timer | None = None

    @property
    def is_passing(self) -> bool:
        """Whether the cursor has moved and not rested yet."""
        return self._timer is not None

    def moved(self) -> None:
        """The cursor has moved."""
        self.end()
        self._timer = self._widget.set_timer(REST_S, self._rested)

    def end(self) -> bool:
        """It rests, from now on; whether it was passing until now."""
        if self._timer is None:
            return False
        self._timer.stop()
        self._timer = None
        return True

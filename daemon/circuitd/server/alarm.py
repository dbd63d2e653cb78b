"""One alarm that is set to whatever is due next."""

import asyncio
from collections.abc import Callable, Iterable


class Alarm:
    """Calls `ring` once, at the earliest of the times it was set to, on `clock`."""

    def __init__(self, clock: Callable[[], float], ring: Callable[[], None]) -> None:
        self._clock, self._ring = clock, ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at: float | None = None

    def set(self, times: Iterable[float | None], now: float) -> None:
        """Ring at the earliest of `times`, and no later than it was to ring before.

        An alarm that comes too early finds nothing to do, and is set again.
        """
        due = min((t for t in (*times, self._due_at) if t is not None), default=None)
        if due is None or due == self._due_at:
            return
        self.cancel()
        self._due_at = due
        self._timer = self._loop.call_later(max(0.0, due - now), self._rings)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due_at = None

    def _rings(self) -> None:
        self._timer = self._due_at = None
        self._ring()

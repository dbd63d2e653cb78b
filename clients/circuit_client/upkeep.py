"""Keeping up a connection for as long as a program runs: look, use it, and look again.

A connection restores its line by itself, but a program that stays for hours needs more: the daemon
may be absent at first, come back elsewhere or as another version, or be one that refuses us. So
each line that is lost is left for good, and the next connection is made as the first one was.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from circuit_protocol.errors import RequestError

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 2.0


class Closable(Protocol):
    """A connection, as far as it matters here."""

    async def aclose(self) -> None:
        """Hang up."""
        ...


C = TypeVar("C", bound=Closable)


class Upkeep(Generic[C]):
    """Looks for the daemon, soon at first and then every two seconds; has the connection used until
    its line is lost; and looks again.

    `use` follows something that never ends by itself, which is how a lost line is noticed: it fails
    then, and `lost` is told why. It returns when `is_due`. `missed` is told why an attempt gave no
    connection, or one whose daemon will not have it used.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        use: Callable[[C], Awaitable[None]],
        *,
        lost: Callable[[Exception], None],
        missed: Callable[[Exception], None],
    ) -> None:
        self._connect = connect
        self._use = use
        self._lost = lost
        self._missed = missed
        self._again = asyncio.Event()

    @property
    def is_due(self) -> bool:
        """Whether to connect anew is wanted."""
        return self._again.is_set()

    def again(self) -> None:
        """Connect anew, without a pause before it."""
        self._again.set()

    async def rest(self, at_most_s: float | None = None) -> None:
        """Wait until `again` is called, or for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._again.wait(), at_most_s)
        self._again.clear()

    async def run(self) -> None:
        """Go on until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            if await self._attempt():
                pause_s = FIRST_PAUSE_S
            await self.rest(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _attempt(self) -> bool:
        """Connect, and use the connection to its end; whether there was one to use."""
        try:
            connection = await self._connect()
        except Exception as e:  # whatever it is, it is told, and the next attempt comes
            self._missed(e)
            return False
        async with contextlib.aclosing(connection):
            try:  # in here: hanging up takes a moment, and what happened is told before
                await self._use(connection)
            except RequestError as e:
                self._missed(e)
                return False
            except Exception as e:
                self._lost(e)
        return True

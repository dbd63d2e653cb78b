"""Keys in the order in which they were typed, each to what has the keys by then.

Over a slow line several keys arrive at once. Textual hands all of them to what is focused at that
moment, so that a key which moves the focus (`/`, tab, enter) loses those behind it. Here each key
waits until what the one before it set off has come to rest.
"""

import asyncio
from collections import deque
from typing import Final

from textual import events
from textual.app import App

#: A key's doing goes from queue to queue: to a widget, up to the page, to the app and back. So many
#: turns of the event loop are more than enough, and take no time where nothing is to be done.
_TURNS: Final = 40


class InOrder(App[None]):
    """An app that takes one key after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[events.Key] = deque()
        self._settling: asyncio.Task[None] | None = None

    async def on_event(self, event: events.Event) -> None:
        """Keep a key back while the one before it is at work."""
        if not isinstance(event, events.Key) or event.is_forwarded:
            await super().on_event(event)
        elif self._settling is not None:
            self._typed.append(event)
        else:
            await super().on_event(event)
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        """Wait until nothing more comes of a key, then hand on the next one."""
        while True:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if not self._typed:
                break
            await super().on_event(self._typed.popleft())
        self._settling = None

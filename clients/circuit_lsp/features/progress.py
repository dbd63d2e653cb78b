"""Progress of what takes longer, with a cancel that reaches the daemon."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Final

from lsprotocol import types
from pygls.lsp.server import LanguageServer

#: What is done sooner shows nothing.
_PATIENCE_S: Final = 0.5


class Reporter:
    """One thing's progress, shown if it takes longer than half a second and the editor can."""

    def __init__(
        self, server: LanguageServer, title: str, on_cancel: Callable[[], object] | None
    ) -> None:
        self._server = server
        self._title = title
        self._on_cancel = on_cancel
        self._token = f"circuit-{uuid.uuid4().hex[:12]}"
        window = server.client_capabilities.window
        self._is_wanted = bool(window and window.work_done_progress)
        self._begun = False
        self._ended = False
        self._message: str | None = None
        self._share: float | None = None
        self._task = asyncio.create_task(self._begin()) if self._is_wanted else None

    async def _begin(self) -> None:
        await asyncio.sleep(_PATIENCE_S)
        progress = self._server.work_done_progress
        await progress.create_async(self._token)
        if self._ended:
            return
        progress.begin(
            self._token,
            types.WorkDoneProgressBegin(
                title=self._title,
                cancellable=self._on_cancel is not None,
                message=self._message,
                percentage=self._percentage(),
            ),
        )
        self._begun = True
        if self._on_cancel is not None:
            on_cancel = self._on_cancel
            future = progress.tokens[self._token]
            future.add_done_callback(lambda f: on_cancel() if f.cancelled() else None)

    def report(self, message: str, share: float | None) -> None:
        """How far it is: `share` from 0 to 1, None where that is not known."""
        self._message, self._share = message, share
        if self._begun and not self._ended:
            self._server.work_done_progress.report(
                self._token,
                types.WorkDoneProgressReport(message=message, percentage=self._percentage()),
            )

    def end(self, message: str | None = None) -> None:
        """It is over."""
        if self._ended:
            return
        self._ended = True
        if self._begun:
            end = types.WorkDoneProgressEnd(message=message)
            self._server.work_done_progress.end(self._token, end)
        elif self._task is not None:
            self._task.cancel()

    def _percentage(self) -> int | None:
        return None if self._share is None else round(100 * min(1.0, max(0.0, self._share)))

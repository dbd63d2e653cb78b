"""A work item on its way to the queue: its model is found or fetched, its answer looked up.

Usually all of that is done at once, from memory. Where a file has to be read or fetched, the item
waits in a task here, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from circuit_protocol import requests as r
from circuit_protocol.errors import CircuitError, DeadlineExceeded, InternalError
from circuitd.server.answer_cache import AnswerCache
from circuitd.server.catalog import Catalog, Located
from circuitd.server.owner import Owner
from circuitd.server.scheduler import WorkItem
from circuitd.server.validation import prompt_cost

log = logging.getLogger(__name__)


class Admission:
    """Answers items from the cache, or hands them to `enqueue`, which may raise CircuitError."""

    def __init__(
        self,
        catalog: Catalog,
        cache: AnswerCache,
        *,
        enqueue: Callable[[WorkItem, Owner, Located | None], None],
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._cache = cache
        self._enqueue = enqueue
        self._clock = clock
        #: Items that wait for a file, with who wants them.
        self.preparing: dict[int, tuple[Owner, asyncio.Task[None]]] = {}

    def admit(self, item: WorkItem, owner: Owner, name: str, dtype: r.DTypeName) -> None:
        """Let an item in that is about the model `name`. Raises CircuitError.

        An item without a `request` only needs to know where the model is, not that it be resident.
        """
        located = self._catalog.locate(name, dtype)
        if located is None:
            self._prepare(item, owner, self._fetch_model(item, owner, name, dtype))
        else:
            self._located(item, owner, located)

    def answer_after_all(
        self, item: WorkItem, owner: Owner, leave_queue: Callable[[], None]
    ) -> None:
        """A queued item's model hash is known only now: it may have been answered before."""
        item.question = self._cache.question(item)
        if item.question is None or item.model is None or item.request is None:
            return
        stored = self._cache.peek(item.question, owner.lessee, self._clock())
        if stored is not None:
            leave_queue()
            owner.from_cache(stored)
        elif self._cache.results.is_on_disk(item.question):
            # It loses its place in the queue: reading a file is quicker than waiting.
            leave_queue()
            located = Located(item.model, item.request.model, 0)
            self._prepare(item, owner, self._read_answer(item, owner, located, item.question))

    def cancel(self, number: int) -> Owner | None:
        """Stop preparing an item: who wanted it, or None if it is not here."""
        owner, task = self.preparing.pop(number, (None, None))
        if task is not None:
            task.cancel()
        return owner

    def close(self) -> None:
        """Stop preparing anything; nobody is told."""
        for number in list(self.preparing):
            self.cancel(number)

    def _located(self, item: WorkItem, owner: Owner, located: Located) -> None:
        item.model = located.key
        request = item.request
        if request is None:
            self._enqueue(item, owner, None)
            return
        if isinstance(request, r.Forward) and not request.interventions:
            item.merge_key = (located.key, item.priority)
            item.cost = prompt_cost(request.prompts)
        item.question = self._cache.question(item)
        if item.question is not None:
            stored = self._cache.peek(item.question, owner.lessee, self._clock())
            if stored is not None:
                owner.from_cache(stored)
                return
            if self._cache.results.is_on_disk(item.question):
                self._prepare(item, owner, self._read_answer(item, owner, located, item.question))
                return
        self._enqueue(item, owner, located)

    async def _fetch_model(
        self, item: WorkItem, owner: Owner, name: str, dtype: r.DTypeName
    ) -> None:
        located = await asyncio.to_thread(self._catalog.fetch, name, dtype)
        del self.preparing[item.number]
        self._located(item, owner, located)

    async def _read_answer(
        self, item: WorkItem, owner: Owner, located: Located, question: str
    ) -> None:
        stored = await self._cache.get(question, owner.lessee, self._clock())
        del self.preparing[item.number]
        if stored is not None:
            owner.from_cache(stored)
        else:
            self._enqueue(item, owner, located)

    def _prepare(self, item: WorkItem, owner: Owner, steps: Coroutine[Any, Any, None]) -> None:
        left_s = None if item.deadline_at is None else item.deadline_at - self._clock()
        limit = asyncio.timeout(left_s)

        async def run() -> None:
            try:
                async with limit:
                    await steps
            except CircuitError as error:
                failed(error)
            except Exception:
                if limit.expired():
                    failed(DeadlineExceeded("the model or the answer was not here in time"))
                    return
                log.exception("request %s failed on its way to the queue", item.request_id)
                failed(InternalError("the request failed on its way to the queue"))

        def failed(error: CircuitError) -> None:
            self.preparing.pop(item.number, None)
            owner.failed(error)

        self.preparing[item.number] = (owner, asyncio.create_task(run()))

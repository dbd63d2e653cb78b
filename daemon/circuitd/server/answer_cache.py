"""The result cache as the front uses it: keys for questions, stored answers, the tensors they name.

An answer that names held tensors is only given out while all of them are still held; giving it out
leases them to the asker as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import circuitd
from circuit_protocol import requests as r
from circuit_protocol.tensors import Frame
from circuitd.server.leases import Leases
from circuitd.server.question import question_key
from circuitd.server.routing import CACHEABLE
from circuitd.server.scheduler import ClientId, WorkItem
from circuitd.store.results import ResultCache, StoredReply
from circuitd.store.segments import SegmentDir
from circuitd.work import ModelKey, Segment

#: Content hashes remembered of models that are not resident (any more).
_MAX_HASHES: Final = 4096


class AnswerCache:
    """Looks answers up and keeps them, together with the leases of the tensors they name."""

    def __init__(
        self,
        leases: Leases,
        segments: SegmentDir,
        make_results: Callable[[Callable[[Sequence[Segment]], None]], ResultCache],
        task_signature: Callable[[str], str],
    ) -> None:
        """`make_results(on_release)` opens the store; `task_signature` knows task files."""
        self.leases = leases
        self.segments = segments
        self._task_signature = task_signature
        self._hashes: dict[tuple[str, str], str] = {}
        loop = asyncio.get_running_loop()

        def released(segments: Sequence[Segment]) -> None:  # from whichever thread evicts
            loop.call_soon_threadsafe(self._released, tuple(segments))

        self.results = make_results(released)

    def learn_hash(self, key: ModelKey, model_hash: str) -> None:
        """A worker has told the content hash of a checkpoint."""
        if len(self._hashes) >= _MAX_HASHES:
            del self._hashes[next(iter(self._hashes))]
        self._hashes[key.path, key.signature] = model_hash

    def question(self, item: WorkItem) -> str | None:
        """The key of an item's answer; None if it is not to be cached, or not known yet."""
        request, model = item.request, item.model
        if model is None or not isinstance(request, CACHEABLE) or not request.use_cache:
            return None
        model_hash = self._hashes.get((model.path, model.signature))
        if model_hash is None:
            return None
        signature = "\n".join(self._task_signature(task) for task in _tasks_of(request))
        return question_key(
            model_hash,
            request,
            item.frames,
            version=circuitd.__version__,
            task_signature=signature,
        )

    def peek(self, key: str, asker: ClientId, now: float) -> StoredReply | None:
        """An answer that is in memory, its tensors now leased to `asker` as well."""
        return self._usable(key, self.results.peek(key), asker, now)

    async def get(self, key: str, asker: ClientId, now: float) -> StoredReply | None:
        """An answer from memory or disk."""
        return self._usable(key, await self.results.get(key), asker, now)

    def keep(
        self,
        key: str,
        header: bytes,
        frames: tuple[Frame, ...],
        segments: tuple[Segment, ...],
        *,
        description: str,
    ) -> None:
        """Store a final answer."""
        self.leases.keep_for_cache(segments)
        stored = StoredReply(header=header, frames=frames, segments=segments)
        self.results.put(key, stored, description=description)

    def delete(self, dead: Sequence[Segment]) -> None:
        """Remove the files of tensors nobody needs any more, and the answers that name them."""
        for segment in dead:
            self.segments.delete(segment)
        if dead:
            self.results.forget_segments(s.handle for s in dead)

    @property
    def nbytes(self) -> int:
        """Bytes in memory: held tensors and cached answers."""
        return self.leases.nbytes + self.results.memory_nbytes

    def _usable(
        self, key: str, reply: StoredReply | None, asker: ClientId, now: float
    ) -> StoredReply | None:
        if reply is None or self.leases.share(asker, (s.handle for s in reply.segments), now):
            return reply
        self.results.evict(key)
        return None

    def _released(self, segments: Sequence[Segment]) -> None:
        self.delete(self.leases.cache_let_go(segments))


def _tasks_of(request: r.ModelRequest) -> tuple[str, ...]:
    match request:
        case r.EvaluateTasks():
            return request.tasks or ("*",)
        case r.Hook() | r.Ablate() if isinstance(request.input, r.TaskInput):
            return (request.input.task,)
        case _:
            return ()

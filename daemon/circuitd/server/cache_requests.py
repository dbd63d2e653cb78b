"""Requests about what is kept: models, held activations, answers, fetched artefacts, tokenizers.

Each kind answers the same questions (stats, list, pin, evict, clear) through a `CacheKindView`.
Tokenizers are small and live in the workers beside the models that use them: they are listed, and
go when those models go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from circuit_protocol import requests as r
from circuit_protocol.errors import CircuitError, InvalidRequest, NotFound
from circuit_protocol.replies import (
    CacheEntries,
    CacheEntry,
    CacheFreed,
    CacheKindStats,
    CacheReport,
    Done,
)
from circuitd.server.replies import OpenRequest
from circuitd.server.residents import Model

if TYPE_CHECKING:
    from circuitd.server.front import Front, Handler


class CacheKindView(Protocol):
    """One kind of cache. May wait for the disk in a thread."""

    async def stats(self) -> CacheKindStats:
        """Entries, bytes, hits."""
        ...

    async def entries(self, limit: int) -> list[CacheEntry]:
        """Most recently used first."""
        ...

    async def pin(self, key: str, pinned: bool) -> bool:
        """Whether that changed anything. Raises NotFound."""
        ...

    async def evict(self, key: str) -> tuple[int, int]:
        """Entries and bytes freed. Raises NotFound."""
        ...

    async def clear(self) -> tuple[int, int]:
        """Entries and bytes freed; pinned ones stay."""
        ...


class _Models:
    def __init__(self, front: Front) -> None:
        self._dispatcher = front.dispatcher

    async def stats(self) -> CacheKindStats:
        residency = self._dispatcher.residency
        return CacheKindStats(
            kind="models",
            entries=len(residency.models),
            nbytes=sum(m.nbytes for m in residency.models.values()),
            budget_nbytes=residency.budget_nbytes,
            hits=residency.hits,
            misses=residency.misses,
            evictions=residency.evictions,
        )

    async def entries(self, limit: int) -> list[CacheEntry]:
        now = self._dispatcher.clock()
        newest = sorted(self._resident(), key=lambda m: -m.last_used_at)[:limit]
        return [
            CacheEntry(
                key=_model_key(m),
                nbytes=m.nbytes,
                description=f"{m.name} on {self._dispatcher.residency.places[m.worker].device}",
                pinned=m.pinned,
                hits=m.uses,
                age_s=max(0.0, now - m.last_used_at),
            )
            for m in newest
        ]

    async def pin(self, key: str, pinned: bool) -> bool:
        return self._dispatcher.pin(self._find(key).key, pinned)

    async def evict(self, key: str) -> tuple[int, int]:
        return await self._unload([self._find(key)])

    async def clear(self) -> tuple[int, int]:
        return await self._unload([m for m in self._resident() if not m.pinned and not m.in_use])

    async def _unload(self, models: list[Model]) -> tuple[int, int]:
        freed: list[int] = []
        left, done = len(models), asyncio.Event()
        for model in models:

            def told(error: CircuitError | None, nbytes: int = model.nbytes) -> None:
                nonlocal left
                left -= 1
                if error is None:  # else somebody wanted it again, and it stays
                    freed.append(nbytes)
                if not left:
                    done.set()

            self._dispatcher.unload(model.key, told)
        if models:
            await done.wait()
        return len(freed), sum(freed)

    def _resident(self) -> list[Model]:
        models = self._dispatcher.residency.models.values()
        return [m for m in models if m.state == "resident"]

    def _find(self, key: str) -> Model:
        for model in self._resident():
            if key in (_model_key(model), model.name):
                return model
        raise NotFound.unknown("resident model", key, map(_model_key, self._resident()))


class _Activations:
    def __init__(self, front: Front) -> None:
        self._cache = front.cache
        self._clock = front.dispatcher.clock

    async def stats(self) -> CacheKindStats:
        leases = self._cache.leases
        return CacheKindStats(
            kind="activations",
            entries=len(leases.held),
            nbytes=leases.nbytes,
            budget_nbytes=leases.budget_nbytes,
            hits=leases.hits,
            misses=leases.misses,
            evictions=leases.evictions,
        )

    async def entries(self, limit: int) -> list[CacheEntry]:
        now = self._clock()
        newest = sorted(self._cache.leases.held.values(), key=lambda h: -h.last_used_at)
        return [
            CacheEntry(
                key=held.segment.handle,
                nbytes=held.segment.nbytes,
                description=held.segment.description
                or f"{held.segment.dtype} {list(held.segment.shape)}",
                pinned=held.pinned,
                hits=held.uses,
                age_s=max(0.0, now - held.created_at),
            )
            for held in newest[:limit]
        ]

    async def pin(self, key: str, pinned: bool) -> bool:
        held = self._cache.leases.held.get(key)
        if held is None:
            raise self._unknown(key)
        changed = held.pinned != pinned
        self._cache.delete(self._cache.leases.pin(key, pinned))
        return changed

    async def evict(self, key: str) -> tuple[int, int]:
        segment = self._cache.leases.evict(key)
        if segment is None:
            raise self._unknown(key)
        self._cache.delete([segment])
        return 1, segment.nbytes

    async def clear(self) -> tuple[int, int]:
        gone = self._cache.leases.evict_unleased()
        self._cache.delete(gone)
        return len(gone), sum(s.nbytes for s in gone)

    def _unknown(self, key: str) -> NotFound:
        return NotFound("no held tensor has this handle", asked=key[:80])


class _Results:
    def __init__(self, front: Front) -> None:
        self._results = front.cache.results

    async def stats(self) -> CacheKindStats:
        return self._results.stats()

    async def entries(self, limit: int) -> list[CacheEntry]:
        return await asyncio.to_thread(self._results.entries, limit)

    async def pin(self, key: str, pinned: bool) -> bool:
        if not await asyncio.to_thread(self._results.pin, key, pinned):
            raise self._unknown(key)
        return True

    async def evict(self, key: str) -> tuple[int, int]:
        freed = await asyncio.to_thread(self._results.evict, key)
        if freed is None:
            raise self._unknown(key)
        return 1, freed

    async def clear(self) -> tuple[int, int]:
        return await asyncio.to_thread(self._results.clear)

    def _unknown(self, key: str) -> NotFound:
        return NotFound("no cached result has this key", asked=key[:80])


class _Artefacts:
    def __init__(self, front: Front) -> None:
        self._artefacts = front.artefacts
        self._models = front.dispatcher.residency.models

    async def stats(self) -> CacheKindStats:
        return await asyncio.to_thread(self._artefacts.stats)

    async def entries(self, limit: int) -> list[CacheEntry]:
        return await asyncio.to_thread(self._artefacts.entries, limit)

    async def pin(self, key: str, pinned: bool) -> bool:
        return await asyncio.to_thread(self._artefacts.pin, key, pinned)

    async def evict(self, key: str) -> tuple[int, int]:
        return await asyncio.to_thread(self._artefacts.evict, key, self._in_use())

    async def clear(self) -> tuple[int, int]:
        return await asyncio.to_thread(self._artefacts.clear, self._in_use())

    def _in_use(self) -> frozenset[str]:
        return frozenset(key.path for key in self._models)


class _Tokenizers:
    def __init__(self, front: Front) -> None:
        self._models = front.dispatcher.residency.models

    async def stats(self) -> CacheKindStats:
        entries = len(await self.entries(1 << 30))
        return CacheKindStats(kind="tokenizers", entries=entries, nbytes=0, budget_nbytes=0)

    async def entries(self, limit: int) -> list[CacheEntry]:
        names = {m.key.path: m.name for m in self._models.values() if m.state == "resident"}
        return [
            CacheEntry(key=path, nbytes=0, description=f"the tokenizer of {name}")
            for path, name in list(names.items())[:limit]
        ]

    async def pin(self, key: str, pinned: bool) -> bool:
        raise _with_their_models(key)

    async def evict(self, key: str) -> tuple[int, int]:
        raise _with_their_models(key)

    async def clear(self) -> tuple[int, int]:
        return 0, 0


def _with_their_models(key: str) -> InvalidRequest:
    return InvalidRequest(
        "tokenizers stay and go with the models that use them",
        asked=key[:200],
        hint="Pin or unload the model",
    )


def _model_key(model: Model) -> str:
    return f"{model.name}:{model.key.dtype}"


_VIEWS: Final[Mapping[r.CacheKind, type]] = {
    "models": _Models,
    "activations": _Activations,
    "results": _Results,
    "artefacts": _Artefacts,
    "tokenizers": _Tokenizers,
}


def _view(front: Front, kind: r.CacheKind) -> CacheKindView:
    return _VIEWS[kind](front)


async def stats(front: Front, entry: OpenRequest, request: r.CacheStats) -> None:
    """All kinds."""
    kinds = [await _view(front, kind).stats() for kind in _VIEWS]
    front.reply(entry, CacheReport(id=request.id, kinds=tuple(kinds)))


async def list_entries(front: Front, entry: OpenRequest, request: r.CacheList) -> None:
    """Entries of one kind."""
    found = await _view(front, request.kind).entries(request.limit)
    front.reply(entry, CacheEntries(id=request.id, kind=request.kind, entries=tuple(found)))


async def pin(front: Front, entry: OpenRequest, request: r.CachePin) -> None:
    """Pin or unpin an entry."""
    changed = await _view(front, request.kind).pin(request.key, request.pinned)
    front.reply(entry, Done(id=request.id, changed=changed))


async def evict(front: Front, entry: OpenRequest, request: r.CacheEvict) -> None:
    """Drop an entry."""
    entries, nbytes = await _view(front, request.kind).evict(request.key)
    front.reply(entry, CacheFreed(id=request.id, entries=entries, nbytes=nbytes))


async def clear(front: Front, entry: OpenRequest, request: r.CacheClear) -> None:
    """Drop all unpinned entries of a kind, or of all."""
    kinds = _VIEWS if request.kind is None else (request.kind,)
    freed = [await _view(front, kind).clear() for kind in kinds]
    front.reply(
        entry,
        CacheFreed(
            id=request.id,
            entries=sum(entries for entries, _ in freed),
            nbytes=sum(nbytes for _, nbytes in freed),
        ),
    )


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    r.CacheStats: stats,
    r.CacheList: list_entries,
    r.CachePin: pin,
    r.CacheEvict: evict,
    r.CacheClear: clear,
}

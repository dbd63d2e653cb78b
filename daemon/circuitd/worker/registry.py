"""Which handler carries out which request type, alone or several of a kind as one batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

from circuit_protocol.errors import InvalidRequest
from circuit_protocol.requests import Request
from circuitd.worker.context import Context
from circuitd.worker.output import Output

#: What a handler is while it runs: each `next()` is one bounded step.
Steps: TypeAlias = Generator[Output | None, None, None]
#: Carries out one request. `Any` is the request type it is registered for.
Handler: TypeAlias = Callable[[Any, Context], Steps]
#: Carries out several requests of one type on one model at once; answers each by `Output.item`.
BatchHandler: TypeAlias = Callable[[Sequence[Context]], Steps]


class Registry:
    """The handlers of a worker."""

    def __init__(
        self,
        handlers: Mapping[type[Request], Handler],
        batched: Mapping[type[Request], BatchHandler] | None = None,
    ) -> None:
        self._handlers = dict(handlers)
        self._batched = dict(batched or {})

    def group(self, contexts: Sequence[Context]) -> list[list[Context]]:
        """The items of a `Run`, split into those that are carried out together."""
        groups: list[list[Context]] = []
        together: dict[tuple[type[Request], object], list[Context]] = {}
        for context in contexts:
            kind = type(context.request)
            if kind not in self._batched:
                groups.append([context])
                continue
            key = (kind, context.item.model)
            if key not in together:
                together[key] = []
                groups.append(together[key])
            together[key].append(context)
        return groups

    def begin(self, group: Sequence[Context]) -> Steps:
        """What carries out a group. Of an unserved type the first raises InvalidRequest."""
        kind = type(group[0].request)
        if kind in self._batched:
            return self._batched[kind](group)
        return self._handlers.get(kind, _unserved)(group[0].request, group[0])


def _unserved(request: Request, context: Context) -> Steps:
    raise InvalidRequest(
        "no worker serves this request type", asked=str(request.__struct_config__.tag)
    )
    yield  # which makes it the generator that every handler is

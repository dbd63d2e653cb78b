"""Saying again what was recorded: a replay stands where a connection would, without a daemon.

The shared session is not recorded: a replay keeps one of its own, so that choosing and selecting
work as they do anywhere.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET

from circuit_client.answers import Answer
from circuit_client.call import Call
from circuit_client.inflight import Arrived, Folding
from circuit_protocol.codec import decode_reply, decode_request
from circuit_protocol.errors import (
    Cancelled,
    InternalError,
    NotFound,
    from_info,
)
from circuit_protocol.replies import (
    AnyReply,
    Failed,
    SessionEvent,
    StatusReport,
    TextPiece,
    Texts,
    Welcome,
)
from circuit_protocol.requests import AttachSession, Detokenize, Status, UpdateSession
from circuit_protocol.session import SessionPatch, SessionState
from circuit_protocol.tensors import NUMPY_DTYPES, Handle
from circuit_tui.recording import (
    HeldArray,
    Recording,
    digest_of,
    read_recording,
)
from circuit_tui.source import Stream

E = TypeVar("E")
R = TypeVar("R")


class Replay:
    """A source that answers from a recording; what was never asked there is `not_found`."""

    def __init__(self, path: Path) -> None:
        """Read a recording. Raises NotFound or InvalidRequest."""
        recording = read_recording(path)
        welcome = decode_reply(recording.header.welcome)
        if not isinstance(welcome, Welcome):
            raise InternalError("a recording begins with a welcome", found=type(welcome).__name__)
        self._recording = recording
        #: What the recorded daemon said of itself.
        self.welcome = welcome
        self.endpoint = f"replay of {path.name}"
        self._asked: dict[bytes, int] = {}
        self._session = SessionState(name="replay")
        self._pieces = _pieces(recording)
        self.is_open = True

    def submit(self, call: Call[E, R]) -> Stream[E, R]:
        """Answer what was recorded."""
        request = call.request
        if isinstance(request, UpdateSession):
            self._session = _patched(self._session, request.patch)
            return _ReplayedStream(call, [SessionEvent(id="?", state=self._session)], (), {})
        if isinstance(request, AttachSession):
            event = SessionEvent(id="?", final=False, state=self._session, attached=1)
            return _ReplayedStream(call, [event], (), {}, ends=False)
        digest = digest_of(request, call.frames)
        known = self._recording.exchanges.get(digest, ())
        if not known and isinstance(request, Detokenize):
            rows = [self._pieces.get((request.model, row)) for row in request.tokens]
            if None not in rows:
                texts = Texts(id="?", rows=tuple(row for row in rows if row is not None))
                return _ReplayedStream(call, [texts], (), {})
        if not known and isinstance(request, Status):
            report = _quiet(self.welcome)
            return _ReplayedStream(call, [report], (), {})
        if not known:
            error = NotFound(
                "this was not asked while the session was recorded",
                asked=str(type(request).__struct_config__.tag),
                hint="Connect to a daemon to ask anything: `circuit tui` without --replay",
            )
            return _ReplayedStream(call, [Failed(id="?", error=error.to_info())], (), {})
        n = self._asked.get(digest, 0)
        self._asked[digest] = n + 1
        exchange = known[min(n, len(known) - 1)]
        replies = [decode_reply(answered.header) for answered in exchange.replies]
        frames = tuple(answered.frames for answered in exchange.replies)
        return _ReplayedStream(call, replies, frames, {h.handle: h for h in exchange.held})

    async def aclose(self) -> None:
        """Nothing to hang up."""
        self.is_open = False


class _ReplayedStream(Generic[E, R]):
    """Recorded replies, one after the other."""

    def __init__(
        self,
        call: Call[E, R],
        replies: Sequence[AnyReply],
        frames: Sequence[tuple[bytes, ...]],
        held: dict[str, HeldArray],
        *,
        ends: bool = True,
    ) -> None:
        self._replies = list(zip(replies, frames or [()] * len(replies), strict=True))
        self._folding = Folding(call, _Kept(held))
        self._ends = ends
        self._cancelled = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        while not self._folding.done:
            event = await self._step()
            if event is not None:
                return event
        self._folding.result()
        raise StopAsyncIteration

    async def _step(self) -> E | None:
        await asyncio.sleep(0)  # others go on between replies, as they do on a line
        if not self._replies:
            if not self._ends:
                await self._cancelled.wait()
            return self._folding.fold(Cancelled("the recording ends here"))
        reply, frames = self._replies.pop(0)
        if isinstance(reply, Failed):
            return self._folding.fold(from_info(reply.error))
        return self._folding.fold(Arrived(reply, frames))

    async def result(self) -> R:
        """The end."""
        while not self._folding.done:
            await self._step()
        result = self._folding.result()
        if isinstance(result, Answer):
            for value in result.held_values():
                value.numpy()
        return result

    def cancel(self) -> None:
        """No more."""
        self._cancelled.set()


class _Kept:
    """Holds the tensors that recorded replies name by handle."""

    def __init__(self, held: dict[str, HeldArray]) -> None:
        self._held = held

    @property
    def instance(self) -> str:
        """The recording."""
        return "recorded"

    def fetch_now(self, handle: Handle, instance: str) -> np.ndarray:
        """The array of a handle."""
        kept = self._held.get(handle.handle)
        if kept is None:
            raise NotFound("this tensor was not recorded", asked=handle.handle)
        dtypes = {np.dtype(d).str for d in NUMPY_DTYPES.values()}
        if kept.dtype not in dtypes:
            raise InternalError("a recording names an unknown dtype", found=kept.dtype)
        array = np.frombuffer(kept.data, kept.dtype).reshape(kept.shape)
        if handle.dtype == "BF16":  # kept widened: the upper halves are the very bits again
            return (array.view(np.uint32) >> 16).astype(np.uint16)
        return array

    def lease(self, handle: str, instance: str) -> None:
        """Nothing is leased."""

    def release(self, handle: str, instance: str) -> None:
        """Nothing is leased."""


def _pieces(recording: Recording) -> dict[tuple[str, tuple[int, ...]], TextPiece]:
    """The text of every row of tokens that was asked about, by model and tokens.

    Which rows are asked about together depends on what is known already, so on timing.
    """
    found: dict[tuple[str, tuple[int, ...]], TextPiece] = {}
    for exchange in (e for some in recording.exchanges.values() for e in some):
        request = decode_request(exchange.request)
        if isinstance(request, Detokenize):
            texts = decode_reply(exchange.replies[-1].header)
            if isinstance(texts, Texts):
                for row, piece in zip(request.tokens, texts.rows, strict=True):
                    found[request.model, row] = piece
    return found


def _patched(state: SessionState, patch: SessionPatch) -> SessionState:
    changes = {k: v for k, v in msgspec.structs.asdict(patch).items() if v is not UNSET}
    return msgspec.structs.replace(state, revision=state.revision + 1, **changes)


def _quiet(welcome: Welcome) -> StatusReport:
    """How a daemon does that only is a file."""
    return StatusReport(
        id="?",
        version=welcome.version,
        instance=welcome.instance,
        uptime_s=0.0,
        endpoints=(),
        processes=(),
        clients=0,
        queued=0,
        running=0,
        completed=0,
        failed=0,
    )

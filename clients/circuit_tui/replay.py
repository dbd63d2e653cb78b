"""Recording what the daemon says, at the client's border, and saying it again without a daemon.

`Recorder` stands between the link and a connection and writes down what passes; `Replay` stands
where a connection would and answers from the recording. The shared session is not recorded: a
replay keeps one of its own, so that choosing and selecting work as they do anywhere.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET

from circuit_client.answers import Answer
from circuit_client.call import Call, Received
from circuit_client.inflight import Arrived, Folding
from circuit_protocol.codec import decode_reply, decode_request, encode
from circuit_protocol.errors import (
    Cancelled,
    CircuitError,
    ConnectError,
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
from circuit_protocol.requests import AttachSession, Detokenize, Request, Status, UpdateSession
from circuit_protocol.session import SessionPatch, SessionState
from circuit_protocol.tensors import NUMPY_DTYPES, Frame, Handle
from circuit_protocol.version import PROTOCOL_VERSION
from circuit_tui.recording import (
    Answered,
    Exchange,
    Header,
    HeldArray,
    Recording,
    RecordingWriter,
    digest_of,
    read_recording,
)
from circuit_tui.source import Source, Stream

E = TypeVar("E")
R = TypeVar("R")

#: What a replay answers itself, and a recorder leaves out.
_OWN: Final = (AttachSession, UpdateSession)


# ------------------------------------------------------------------------------------ recording


class Recorder:
    """A source whose answers are written down as they pass."""

    def __init__(self, source: Source, path: Path) -> None:
        """Record into a new file. Raises FileExistsError rather than write over one."""
        self._source = source
        header = Header(
            protocol=PROTOCOL_VERSION,
            welcome=encode(source.welcome),
            endpoint=source.endpoint,
            recorded_at_s=time.time(),
        )
        self._writer = RecordingWriter(path, header)
        self._last: dict[bytes, tuple[Answered, ...]] = {}

    @property
    def welcome(self) -> Welcome:
        """The daemon's."""
        return self._source.welcome

    @property
    def endpoint(self) -> str:
        """The daemon's."""
        return self._source.endpoint

    @property
    def is_open(self) -> bool:
        """The connection's."""
        return self._source.is_open

    def submit(self, call: Call[E, R]) -> Stream[E, R]:
        """Ask, and write down what comes."""
        if isinstance(call.request, _OWN):
            return self._source.submit(call)
        return _RecordedStream(self, call, self._source)

    async def aclose(self) -> None:
        """Hang up; the file is whole."""
        await self._source.aclose()
        self._writer.close()

    def keep(
        self, request: Request, frames: Sequence[Frame], replies: list[Answered], answer: Any
    ) -> None:
        """Write one exchange, unless it says the same as the one before to the same question."""
        digest = digest_of(request, frames)
        said = tuple(replies)
        if not said or self._last.get(digest) == said:
            return
        self._last[digest] = said
        held = tuple(_held_arrays(answer)) if isinstance(answer, Answer) else ()
        self._writer.add(Exchange(digest=digest, request=encode(request), replies=said, held=held))


class _RecordedStream(Generic[E, R]):
    """A request in flight, written down at its end."""

    def __init__(self, recorder: Recorder, call: Call[E, R], source: Source) -> None:
        self._recorder = recorder
        self._call = call
        self._replies: list[Answered] = []
        self._is_kept = False

        def read_result(received: Received) -> R:
            self._note(received)
            return call.read_result(received)

        def read_event(received: Received) -> E | None:
            self._note(received)
            return call.read_event(received)

        self._stream = source.submit(replace(call, read_result=read_result, read_event=read_event))

    def _note(self, received: Received) -> None:
        frames = tuple(bytes(memoryview(frame).cast("B")) for frame in received.frames)
        self._replies.append(Answered(header=encode(received.reply), frames=frames))

    def __aiter__(self) -> AsyncIterator[E]:
        return self._stream.__aiter__()

    async def result(self) -> R:
        """Its end, written down whether it is good or bad."""
        try:
            answer = await self._stream.result()
        except (Cancelled, ConnectError):
            raise
        except CircuitError as e:
            reply = Failed(id="?", error=e.to_info())
            self._keep([*self._replies, Answered(header=encode(reply))], None)
            raise
        self._keep(self._replies, answer)
        return answer

    def _keep(self, replies: list[Answered], answer: Any) -> None:
        if not self._is_kept:
            self._is_kept = True
            self._recorder.keep(self._call.request, self._call.frames, replies, answer)

    def cancel(self) -> None:
        """End it early."""
        self._stream.cancel()


def _held_arrays(answer: Answer[Any]) -> list[HeldArray]:
    found: list[HeldArray] = []
    for value in answer.held_values():
        tensor = value.tensor
        if isinstance(tensor, Handle) and value.is_here:
            array = np.ascontiguousarray(value.numpy())
            # A BF16 tensor is float32 by now: what is kept is what is shown.
            found.append(
                HeldArray(
                    handle=tensor.handle,
                    dtype=array.dtype.str,
                    shape=array.shape,
                    data=array.tobytes(),
                )
            )
    return found


# --------------------------------------------------------------------------------------- replay


class Replay:
    """A source that answers from a recording; what was never asked there is `not_found`."""

    def __init__(self, path: Path) -> None:
        """Read a recording. Raises NotFound or InvalidRequest."""
        recording = read_recording(path)
        welcome = decode_reply(recording.header.welcome)
        if not isinstance(welcome, Welcome):
            raise InternalError("a recording begins with a welcome", found=type(welcome).__name__)
        self._recording = recording
        self._welcome = welcome
        self._path = path
        self._asked: dict[bytes, int] = {}
        self._session = SessionState(name="replay")
        self._pieces = _pieces(recording)
        self.is_open = True

    @property
    def welcome(self) -> Welcome:
        """What the recorded daemon said of itself."""
        return self._welcome

    @property
    def endpoint(self) -> str:
        """Where the recording lies."""
        return f"replay of {self._path.name}"

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
            report = _quiet(self._welcome)
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

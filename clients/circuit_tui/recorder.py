"""Recording what the daemon says, as it passes between the terminal UI and its connection."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from circuit_client.answers import Answer
from circuit_client.call import Call, Received
from circuit_protocol.codec import encode
from circuit_protocol.errors import Cancelled, CircuitError, ConnectError
from circuit_protocol.replies import Failed
from circuit_protocol.requests import Request
from circuit_protocol.tensors import Frame, Handle
from circuit_protocol.version import PROTOCOL_VERSION
from circuit_tui.recording import Answered, Exchange, Header, HeldArray, RecordingWriter, digest_of
from circuit_tui.source import Source, Stream

E = TypeVar("E")
R = TypeVar("R")


class Recorder:
    """Asks a source, and writes down what is asked and answered, over however many connections."""

    def __init__(self, path: Path, source: Source) -> None:
        """Record into a new file, which begins with what the daemon of `source` says of itself.

        Raises FileExistsError rather than write over a file.
        """
        header = Header(
            protocol=PROTOCOL_VERSION,
            welcome=encode(source.welcome),
            endpoint=source.endpoint,
            recorded_at_s=time.time(),
        )
        self._writer = RecordingWriter(path, header)
        self._last: dict[bytes, tuple[Answered, ...]] = {}

    def ask(self, source: Source, call: Call[E, R]) -> Stream[E, R]:
        """Ask, and write down what comes."""
        return _RecordedStream(self, source, call)

    def close(self) -> None:
        """The file is whole."""
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

    def __init__(self, recorder: Recorder, source: Source, call: Call[E, R]) -> None:
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

"""Recorded sessions: written, read, cut off, damaged, bounded, and answered from."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from circuit_client.call import Call, Received
from circuit_client.verbs.daemon import status
from circuit_client.verbs.forward import forward
from circuit_client.verbs.sessions import attach, update
from circuit_protocol.circuit_requests import ShowCircuit
from circuit_protocol.codec import decode_request, encode
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.interventions import Values
from circuit_protocol.limits import DEFAULT_LIMITS
from circuit_protocol.replies import AnyReply, ForwardResult, Welcome
from circuit_protocol.requests import ListModels
from circuit_protocol.session import SessionPatch
from circuit_protocol.tensors import Frame, Handle, pack
from circuit_tui import recording
from circuit_tui.app import CircuitApp
from circuit_tui.options import Options
from circuit_tui.recorder import Recorder
from circuit_tui.recording import (
    Answered,
    Exchange,
    Header,
    RecordingWriter,
    digest_of,
    read_recording,
)
from circuit_tui.replay import Replay
from scripted_daemon import daemon
from tui_scenes import QUOTE, opened, scripts, until

PLACE = f"{QUOTE.circuit.task}/{QUOTE.summary.sweep}/{QUOTE.summary.label}"
WELCOME = Welcome(
    id="h",
    version="1.2",
    server="scripted",
    instance="i",
    pid=1,
    capabilities=(),
    limits=DEFAULT_LIMITS,
)
HEADER = Header(protocol="1.2", welcome=encode(WELCOME))


class Keeper:
    """Has one held tensor."""

    instance = "i"

    def fetch_now(self, handle: Handle, instance: str) -> np.ndarray:
        return np.full(handle.shape, 0x3F80, np.uint16)  # 1.0 in bfloat16

    def lease(self, handle: str, instance: str) -> None: ...

    def release(self, handle: str, instance: str) -> None: ...


@dataclass
class Source:
    """Answers every forward with losses, and logits by a handle."""

    welcome: Welcome = WELCOME
    endpoint: str = "ipc://somewhere"
    is_open: bool = True

    def submit(self, call: Call):
        return Stream(call)

    async def aclose(self) -> None: ...


class Stream:
    def __init__(self, call: Call) -> None:
        self.call = call

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise StopAsyncIteration

    async def result(self):
        frames: list[Frame] = []
        held: Values = Handle(handle="t1", dtype="BF16", shape=(1, 2, 3), nbytes=12)
        reply: AnyReply = ForwardResult(
            id="7",
            tokens=pack(np.array([[1, 2]], np.int32), frames),
            lengths=pack(np.array([2], np.int32), frames),
            loss=0.5,
            logits=held,
        )
        answer = self.call.read_result(Received(reply, frames, Keeper()))
        for value in answer.held_values():
            value.numpy()
        return answer

    def cancel(self) -> None: ...


async def test_what_passes_a_recorder_comes_out_of_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "s"
    recorder = Recorder(path, Source())
    for _ in range(3):  # said again it is the same, and written once
        await recorder.ask(Source(), forward("m", text="ab")).result()
    recorder.close()
    assert sum(map(len, read_recording(path).exchanges.values())) == 1
    replay = Replay(path)
    assert replay.welcome == WELCOME
    for _ in range(2):
        answer = await replay.submit(forward("m", text="ab")).result()
        assert answer.loss == 0.5
        assert answer.tokens.tolist() == [[1, 2]]
        assert answer.logits.tolist() == [[[1.0] * 3] * 2]
    with pytest.raises(NotFound, match="was not asked"):
        await replay.submit(forward("m", text="abc")).result()
    assert (await replay.submit(status()).result()).running == 0


async def test_a_recording_goes_on_with_the_daemon_that_comes_after_a_lost_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with ExitStack() as first:
        d = first.enter_context(daemon(tmp_path, scripts()))
        app = CircuitApp(Options(endpoint=d.endpoint, record=path, color="truecolor"))
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.link.state.status is not None)
            first.close()
            await until(pilot, lambda: app.link.state.phase == "lost")
            with daemon(tmp_path, scripts(), instance="second"):
                await until(pilot, lambda: app.link.state.phase == "open")
                app.open_circuit(PLACE)
                await opened(pilot, app)
    found = {
        type(decode_request(exchange.request))
        for some in read_recording(path).exchanges.values()
        for exchange in some
    }
    assert {ListModels, ShowCircuit} <= found, "asked of the first, and of the second"


async def test_a_replay_has_a_session_of_its_own(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "s", HEADER).close()
    replay = Replay(tmp_path / "s")
    state = await replay.submit(update("x", SessionPatch(task="t"))).result()
    assert (state.task, state.revision) == ("t", 1)
    stream = replay.submit(attach("x"))
    event = await anext(aiter(stream))
    assert event.state.task == "t"
    stream.cancel()


def test_a_file_that_was_cut_off_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writer = RecordingWriter(path, HEADER)
    for i in range(3):
        writer.add(Exchange(digest=bytes([i]), request=b"q", replies=(Answered(header=b"h"),)))
    writer.close()
    whole = path.read_bytes()
    for cut in range(1, 30):
        path.write_bytes(whole[:-cut])
        assert 1 <= len(read_recording(path).exchanges) <= 2


@pytest.mark.parametrize("at", [3, 24, 60])
def test_a_damaged_or_foreign_file_is_a_sentence(tmp_path: Path, at: int) -> None:
    path = tmp_path / "s"
    RecordingWriter(path, HEADER).close()
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InvalidRequest):
        read_recording(path)
    path.write_bytes(b"")
    with pytest.raises(InvalidRequest):
        read_recording(path)
    with pytest.raises(NotFound):
        read_recording(tmp_path / "nothing")


def test_a_recording_ends_where_it_would_get_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "FILE_NBYTES_MAX", 2000)
    writer = RecordingWriter(tmp_path / "s", HEADER)
    noise = np.random.default_rng(0).bytes(900)
    for i in range(5):
        writer.add(Exchange(digest=bytes([i]), request=b"q", replies=(Answered(header=noise),)))
    writer.close()
    assert writer.is_full
    assert len(read_recording(tmp_path / "s").exchanges) <= 2


def test_a_block_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordingWriter(tmp_path / "s", HEADER)
    writer.add(Exchange(digest=b"d", request=b"q", replies=(Answered(header=b"\0" * 100_000),)))
    writer.close()
    monkeypatch.setattr(recording, "BLOCK_NBYTES_MAX", 50_000)
    with pytest.raises(InvalidRequest, match="too large"):
        read_recording(tmp_path / "s")


def test_a_question_is_known_however_often_it_is_asked() -> None:
    one, two = forward("m", text="ab"), forward("m", text="ab", deadline_s=3.0)
    assert digest_of(one.request, one.frames) == digest_of(two.request, two.frames)
    other = forward("m", text="ab", targets="next")
    assert digest_of(one.request, one.frames) != digest_of(other.request, other.frames)

"""The synchronous and the asynchronous connection against the same scripted daemon."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuit_client import connect, connect_async, iv
from circuit_client.sync import Connection
from circuit_protocol import errors, replies, requests
from circuit_protocol.discovery import Discovery, write_discovery
from circuit_protocol.keys import make_key_pair
from circuit_protocol.tensors import Frame, Handle, pack, unpack
from scripted_daemon import Out, ScriptedDaemon, daemon, welcome


def report(**changes: Any) -> replies.StatusReport:
    fields: dict[str, Any] = {
        "id": "x",
        "version": "0",
        "instance": "i",
        "uptime_s": 1.0,
        "endpoints": (),
        "processes": (),
        "clients": 1,
        "queued": 0,
        "running": 0,
        "completed": 0,
        "failed": 0,
    }
    return replies.StatusReport(**(fields | changes))


def answer_status(request: Any, frames: list) -> Iterator[Out]:
    yield report()


def forward_with(array: np.ndarray | None, handle: str = "h") -> Any:
    """A forward script: logits are twice the tokens, or stay in the daemon as `handle`."""

    def script(request: requests.Forward, frames: list) -> Iterator[Out]:
        assert request.prompts.tokens is not None
        tokens = unpack(request.prompts.tokens, frames)
        lengths = request.prompts.lengths or (tokens.shape[1],) * len(tokens)
        body: list[Frame] = []
        if array is None:
            logits: Any = pack((2.0 * tokens[:, :, None]).astype(np.float32), body)
        else:
            logits = Handle(handle=handle, dtype="F32", shape=array.shape, nbytes=array.nbytes)
        yield (
            replies.ForwardResult(
                id="x",
                tokens=pack(tokens, body),
                lengths=pack(np.array(lengths), body),
                logits=logits,
                loss=0.5,
            ),
            body,
        )

    return script


def steps(n: int, then: Out | None = None) -> Any:
    def script(request: requests.Generate, frames: list) -> Iterator[Out]:
        for i in range(n):
            yield replies.GenerateStep(
                id="x", token=i, data=b"%d " % i, logprob=-1.0, position=i, final=False
            )
        if then is not None:
            yield then

    return script


GENERATED = replies.GenerateResult(id="x", tokens=(0, 1, 2), text="0 1 2 ", stopped_by="length")


# ----------------------------------------------------------------------------- both connections


def test_sync_forward_pads_ragged_prompts_and_gives_arrays(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Forward: forward_with(None)}) as d, connect(d.endpoint) as c:
        answer = c.forward(tokens=[[1, 2, 3], [4]])
        assert answer.lengths.tolist() == [3, 1]
        assert answer.logits[..., 0].tolist() == [[2.0, 4.0, 6.0], [8.0, 0.0, 0.0]]
        assert answer.loss == 0.5
        assert answer.raw.loss == 0.5
        with pytest.raises(errors.InvalidRequest, match="top tokens"):
            _ = answer.top_k


async def test_async_forward_gives_the_same(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Forward: forward_with(None)}) as d:
        async with connect_async(d.endpoint) as c:
            answer = await c.forward(tokens=[[1, 2, 3], [4]])
            assert answer.logits[..., 0].tolist() == [[2.0, 4.0, 6.0], [8.0, 0.0, 0.0]]


def test_sync_stream_iterates_and_then_has_its_result(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Generate: steps(3, GENERATED)}) as d, connect(d.endpoint) as c:
        stream = c.generate(text="x")
        assert [step.token for step in stream] == [0, 1, 2]
        assert stream.result().text == "0 1 2 "
        assert c.generate(text="x").result().tokens == (0, 1, 2)


async def test_async_stream_iterates_and_then_has_its_result(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Generate: steps(3, GENERATED)}) as d:
        async with connect_async(d.endpoint) as c:
            stream = c.generate(text="x")
            assert [step.token async for step in stream] == [0, 1, 2]
            assert (await stream.result()).text == "0 1 2 "


def test_errors_come_back_as_their_types(tmp_path: Path) -> None:
    def fail(request: Any, frames: list) -> Iterator[Out]:
        yield errors.NotFound("no model", asked="x", nearest=["y"], hint="Do z")

    with daemon(tmp_path, {requests.Forward: fail}) as d, connect(d.endpoint) as c:
        with pytest.raises(errors.NotFound) as caught:
            c.forward(tokens=[1])
        assert caught.value.nearest == ("y",)


async def test_async_errors_come_back_as_their_types(tmp_path: Path) -> None:
    def fail(request: Any, frames: list) -> Iterator[Out]:
        yield errors.Busy("full", retry_after_s=2.0)

    with daemon(tmp_path, {requests.Forward: fail}) as d:
        async with connect_async(d.endpoint) as c:
            with pytest.raises(errors.Busy) as caught:
                await c.forward(tokens=[1])
            assert caught.value.retry_after_s == 2.0


def test_progress_reaches_the_callback_in_the_callers_thread(tmp_path: Path) -> None:
    def script(request: Any, frames: list) -> Iterator[Out]:
        yield replies.Progress(id="x", stage="one", done=1, total=2, final=False)
        yield replies.TaskScores(id="x", scores=(), split="train")

    seen: list[tuple[str, int]] = []
    with daemon(tmp_path, {requests.EvaluateTasks: script}) as d, connect(d.endpoint) as c:
        c.tasks.evaluate(progress=lambda p: seen.append((p.stage, threading.get_ident())))
        assert seen == [("one", threading.get_ident())]
        assert [p.stage for p in c.tasks.evaluate.start() if isinstance(p, replies.Progress)] == [
            "one"
        ]


# -------------------------------------------------------------------------------- cancellation


def test_leaving_a_loop_cancels_the_request(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Generate: steps(2)}) as d, connect(d.endpoint) as c:
        for _ in c.generate(text="x"):
            break
        generate = d.wait_for(requests.Generate)
        assert d.wait_for(requests.Cancel).target == generate.id


def test_a_finished_stream_cancels_nothing(tmp_path: Path) -> None:
    scripts = {requests.Generate: steps(1, GENERATED), requests.Status: answer_status}
    with daemon(tmp_path, scripts) as d, connect(d.endpoint) as c:
        with c.generate(text="x") as stream:
            stream.result()
        del stream
        c.status()
        kinds = [type(r) for r in list(d.seen.queue)]
        assert kinds == [requests.Hello, requests.Generate, requests.Status]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_the_request(tmp_path: Path) -> None:
    with daemon(tmp_path) as d, connect(d.endpoint) as c:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            d.wait_for(requests.Forward)
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            c.forward(tokens=[1])
        thread.join()
        d.wait_for(requests.Cancel)


async def test_a_cancelled_coroutine_cancels_the_request(tmp_path: Path) -> None:
    with daemon(tmp_path) as d:
        async with connect_async(d.endpoint) as c:
            task = asyncio.create_task(c.forward(tokens=[1]))
            request = await asyncio.to_thread(d.wait_for, requests.Forward)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancel = await asyncio.to_thread(d.wait_for, requests.Cancel)
            assert cancel.target == request.id


def test_a_callback_that_fails_cancels_the_request(tmp_path: Path) -> None:
    def script(request: Any, frames: list) -> Iterator[Out]:
        yield replies.Progress(id="x", stage="one", final=False)

    def refuse(progress: replies.Progress) -> None:
        raise ZeroDivisionError

    with daemon(tmp_path, {requests.Ablate: script}) as d, connect(d.endpoint) as c:
        with pytest.raises(ZeroDivisionError):
            c.ablate(task="t", layers=[0], progress=refuse)
        d.wait_for(requests.Cancel)


# ----------------------------------------------------------------------------- many at a time


def test_threads_share_a_connection_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Forward: forward_with(None)}) as d, connect(d.endpoint) as c:
        wrong: list[int] = []

        def ask(i: int) -> None:
            for j in range(20):
                value = 100 * i + j
                if c.forward(tokens=[value]).logits[0, 0, 0] != 2.0 * value:
                    wrong.append(value)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_requests_started_together_are_answered_in_any_order(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Forward: forward_with(None)}) as d, connect(d.endpoint) as c:
        streams = [c.forward.start(tokens=[i]) for i in range(50)]
        for i, stream in reversed(list(enumerate(streams))):
            assert stream.result().logits[0, 0, 0] == 2.0 * i


async def test_coroutines_share_a_connection(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Forward: forward_with(None)}) as d:
        async with connect_async(d.endpoint) as c:
            answers = await asyncio.gather(*(c.forward(tokens=[i]) for i in range(50)))
            assert [a.logits[0, 0, 0] for a in answers] == [2.0 * i for i in range(50)]


# --------------------------------------------------------------------------------- held tensors


def test_a_held_tensor_is_fetched_when_touched_with_bounded_credit(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((12, 1 << 20), dtype=np.float32)  # 48 MiB, 24 chunks
    with daemon(tmp_path, {requests.Forward: forward_with(array)}) as d, connect(d.endpoint) as c:
        d.held["h"] = array
        answer = c.forward(tokens=[1])
        assert not answer.logits_value.is_here
        np.testing.assert_array_equal(answer.logits, array)
        assert answer.logits is answer.logits, "fetched once"
        fetch = d.wait_for(requests.Fetch)
        assert d.most_uncredited <= fetch.credit
        answered = weakly(answer)
        del answer
        gc.collect()
        assert d.wait_for(requests.Release).handles == ("h",)
        assert answered() is None


def weakly(thing: Any) -> Any:
    import weakref

    return weakref.ref(thing)


def test_an_answer_nobody_looked_at_is_released_too(tmp_path: Path) -> None:
    array = np.zeros((4, 4), np.float32)
    with daemon(tmp_path, {requests.Forward: forward_with(array)}) as d, connect(d.endpoint) as c:
        c.forward(tokens=[1])
        gc.collect()
        assert d.wait_for(requests.Release).handles == ("h",)


async def test_async_answers_bring_their_tensors_unless_told_to_leave_them(tmp_path: Path) -> None:
    array = np.arange(1 << 18, dtype=np.float32).reshape(512, 512)
    with daemon(tmp_path, {requests.Forward: forward_with(array)}) as d:
        d.held["h"] = array
        async with connect_async(d.endpoint) as c:
            answer = await c.forward(tokens=[1])
            assert answer.logits_value.is_here
            np.testing.assert_array_equal(answer.logits, array)
            left = await c.forward(tokens=[1], deliver="handle")
            with pytest.raises(errors.InvalidRequest, match="event loop"):
                _ = left.logits
            np.testing.assert_array_equal(await c.tensors.fetch(left.logits_value), array)
            np.testing.assert_array_equal(left.logits, array)


def test_a_held_tensor_travels_as_a_handle_into_an_intervention(tmp_path: Path) -> None:
    array = np.zeros((4, 4), np.float32)
    with daemon(tmp_path, {requests.Forward: forward_with(array)}) as d, connect(d.endpoint) as c:
        held = c.forward(tokens=[1]).logits_value
        d.wait_for(requests.Forward)
        c.forward(tokens=[1], interventions=[iv.patch("0.resid_mid", held)])
        (patch,) = d.wait_for(requests.Forward).interventions
        assert patch.values == Handle(handle="h", dtype="F32", shape=(4, 4), nbytes=64)


def test_a_chunk_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def chunk(request: requests.Fetch, frames: list) -> Iterator[Out]:
        yield replies.Chunk(id="x", offset=0, nbytes=128), [b"\0" * 128]

    array = np.zeros(4, np.float32)
    scripts = {requests.Forward: forward_with(array), requests.Fetch: chunk}
    with (
        daemon(tmp_path, scripts) as d,
        connect(d.endpoint) as c,
        pytest.raises(errors.MalformedMessage, match="does not fit"),
    ):
        _ = c.forward(tokens=[1]).logits


# --------------------------------------------------------------------------------------- jobs


def test_a_detached_request_is_a_job_whose_result_reads_as_the_request_would(
    tmp_path: Path,
) -> None:
    def accept(request: requests.Ablate, frames: list) -> Iterator[Out]:
        assert request.detach
        assert request.idempotency_key
        yield replies.JobAccepted(id="x", job="j1")

    def watch(request: requests.WatchJob, frames: list) -> Iterator[Out]:
        body: list[Frame] = []
        losses = pack(np.array([1.0, 2.0]), body)
        yield replies.AblatePart(id="x", start=0, losses=losses, final=False), body
        yield replies.AblateResult(
            id="x",
            model_loss=0.1,
            model_accuracy=1.0,
            base_loss=0.1,
            base_accuracy=1.0,
            losses=losses,
            deltas=losses,
        )

    scripts = {requests.Ablate: accept, requests.WatchJob: watch}
    with daemon(tmp_path, scripts) as d, connect(d.endpoint) as c:
        job = c.ablate.detach(task="t", every="head")
        assert job.name == "j1"
        assert job.result().losses.tolist() == [1.0, 2.0]
        parts = [e for e in job.watch() if not isinstance(e, replies.Progress)]
        assert parts[0].losses.tolist() == [1.0, 2.0]


def test_what_needs_no_model_is_no_job(tmp_path: Path) -> None:
    with daemon(tmp_path) as d, connect(d.endpoint) as c, pytest.raises(errors.InvalidRequest):
        c.status.detach()


# ------------------------------------------------------------------------- lines lost and refused


def test_a_daemon_that_comes_back_answers_what_was_asked_meanwhile(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    with ScriptedDaemon(endpoint, {}) as first:
        c = connect(endpoint)
        pending = c.status.start()
        first.wait_for(requests.Status)
    with c, ScriptedDaemon(endpoint, {requests.Status: answer_status}, instance="second"):
        assert pending.result().instance == "i"
        assert c.welcome.instance == "second"
        assert c.status().instance == "i"


def test_a_changing_request_fails_with_the_line_and_the_connection_recovers(
    tmp_path: Path,
) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    with ScriptedDaemon(endpoint, {}) as first:
        c = connect(endpoint)
        pending = c.cache.clear.start()
        first.wait_for(requests.CacheClear)
    with pytest.raises(errors.ConnectError, match="lost"):
        pending.result()
    with c, ScriptedDaemon(endpoint, {requests.Status: answer_status}):
        c.status()


def test_tensors_of_a_daemon_that_ended_are_gone(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    array = np.zeros((4, 4), np.float32)
    with ScriptedDaemon(endpoint, {requests.Forward: forward_with(array)}):
        c = connect(endpoint)
        answer = c.forward(tokens=[1])
    scripts = {requests.Status: answer_status}
    with c, ScriptedDaemon(endpoint, scripts, instance="second") as d:
        c.status()
        d.held["h"] = array + 1  # another tensor that happens to have the same name
        with pytest.raises(errors.NotFound, match="has ended"):
            _ = answer.logits


def test_waiting_for_a_daemon_that_stays_away_ends(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    with ScriptedDaemon(endpoint, {}):
        c = connect(endpoint, timeout_s=2.0)
    with c, pytest.raises(errors.ConnectError, match="out of reach"):
        c.status()


def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(errors.ConnectError, match="nobody listens"):
        connect(f"ipc://{tmp_path}/none.sock", timeout_s=30)
    assert time.monotonic() - begun < 5


def test_a_silent_listener_is_given_up(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, greeting=replies.Progress(id="x", stage="never", final=False)) as d,
        pytest.raises(errors.CircuitError),
    ):
        connect(d.endpoint, timeout_s=0.3)


def test_another_version_is_refused(tmp_path: Path) -> None:
    with (
        daemon(tmp_path, greeting=welcome(version="2.0")) as d,
        pytest.raises(errors.UnsupportedVersion),
    ):
        connect(d.endpoint)


def test_no_daemon_and_none_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUITD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("CIRCUIT_ENDPOINT", raising=False)
    with pytest.raises(errors.ConnectError, match="no daemon runs"):
        connect(start=False)


def test_keys_for_a_daemon_elsewhere_do_not_hinder_the_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIRCUITD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("CIRCUIT_ENDPOINT", raising=False)
    monkeypatch.setenv("CIRCUIT_SERVER_KEY", make_key_pair("server", tmp_path / "keys").public)
    make_key_pair("me", tmp_path / "keys")
    with daemon(tmp_path, {requests.Status: answer_status}) as d:
        write_discovery(
            Discovery(
                endpoint=d.endpoint, pid=os.getpid(), instance="i", version="1.0", started_at_s=0.0
            )
        )
        for key in (None, tmp_path / "keys" / "me.secret"):
            with connect(key=key, start=False) as c:
                assert c.status().instance == "i"


def test_a_closed_connection_refuses_and_closes_again(tmp_path: Path) -> None:
    with daemon(tmp_path) as d:
        c = connect(d.endpoint)
        c.close()
        c.close()
        with pytest.raises(errors.ConnectError, match="closed"):
            c.status()


def test_closing_ends_the_thread_and_cancels_what_others_wait_for(tmp_path: Path) -> None:
    with daemon(tmp_path) as d:
        c = connect(d.endpoint)
        stream = c.forward.start(tokens=[1])
        d.wait_for(requests.Forward)
        c.close()
        d.wait_for(requests.Cancel)
        with pytest.raises(errors.ConnectError, match="closed"):
            stream.result()
        assert not [t for t in threading.enumerate() if t.name == "circuit-line"]


def test_a_stream_keeps_a_dropped_connection_open(tmp_path: Path) -> None:
    with daemon(tmp_path, {requests.Generate: steps(3, GENERATED)}) as d:
        assert [s.token for s in connect(d.endpoint).generate(text="x")] == [0, 1, 2]
        gc.collect()
        assert not [t for t in threading.enumerate() if t.name == "circuit-line"]


# ------------------------------------------------------------------------------------ CURVE


@pytest.fixture
def curve_daemon(tmp_path: Path) -> Iterator[tuple[ScriptedDaemon, Path, str]]:
    keys = tmp_path / "keys"
    server = make_key_pair("server", keys)
    make_key_pair("me", keys)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with ScriptedDaemon(endpoint, {requests.Status: answer_status}, keys=server) as d:
        yield d, keys, server.public


def free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_curve_with_the_right_keys_works(curve_daemon: tuple) -> None:
    d, keys, public = curve_daemon
    with connect(d.endpoint, key=keys / "me.secret", server_key=public) as c:
        assert c.status().instance == "i"
    with connect(d.endpoint, key=keys / "me.secret", server_key=keys / "server.public") as c:
        assert c.status().instance == "i"


def test_curve_with_a_wrong_server_key_says_so(curve_daemon: tuple, tmp_path: Path) -> None:
    d, keys, _ = curve_daemon
    other = make_key_pair("other", tmp_path / "others").public
    with pytest.raises(errors.ConnectError, match="no connection"):
        connect(d.endpoint, key=keys / "me.secret", server_key=other, timeout_s=20.0)


def test_curve_without_keys_says_what_is_wanted(curve_daemon: tuple) -> None:
    d, _, _ = curve_daemon
    with pytest.raises(errors.ConnectError, match="wants CURVE keys"):
        connect(d.endpoint, timeout_s=20.0)


def test_connections_are_typed_as_such(tmp_path: Path) -> None:
    with daemon(tmp_path) as d, connect(d.endpoint) as c:
        assert isinstance(c, Connection)
        assert c.endpoint == d.endpoint
        assert "Connection" in repr(c)

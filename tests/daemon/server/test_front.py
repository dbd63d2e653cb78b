"""A front and its clients in one loop: who is answered what, and that the front goes on."""

import asyncio
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from circuit_protocol import requests as r
from circuit_protocol.codec import UNKNOWN_ID, encode
from circuit_protocol.errors import CircuitError, InternalError
from circuit_protocol.replies import (
    Done,
    Failed,
    ForwardResult,
    Progress,
    ResidentReport,
    StatusReport,
    Welcome,
)
from circuit_protocol.tensors import Tensor
from circuit_protocol.version import PROTOCOL_VERSION
from circuitd import work
from circuitd.server import serve
from circuitd.settings import DEFAULT_LIMITS
from front_harness import TOKENS, FakeFleet, FakeWorker, House, house, result


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def left_in(path: Path) -> set[str]:
    return {found.name for found in path.rglob("circuitd*")}


def code(reply: object) -> str:
    assert isinstance(reply, Failed), reply
    return reply.error.code


async def never(
    worker: FakeWorker, item: work.Item, request: r.AnyRequest, frames: list[bytes]
) -> None:
    """Work until cancelled, as a real worker does: the answer then says why."""
    fleet = worker.fleet
    await fleet.cancelled[item.work].wait()
    reason = next(c.reason for c in worker.cancels if c.work == item.work)
    error = CircuitError("stopped").to_info()
    await worker.answer(item, Failed(id=request.id, error=replace(error, code=reason)))


# ------------------------------------------------------------------------------ understanding


async def test_hello_status_and_forward_through_a_worker(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client(hello=False)
        welcome = await client.hello()
        assert isinstance(welcome, Welcome)
        assert welcome.limits == h.settings.limits
        assert welcome.instance == h.front.instance
        reply = await client.ask(client.forward())
        assert isinstance(reply, ForwardResult)
        assert not reply.cached
        report = await client.ask(r.Status(id="s"))
        assert isinstance(report, StatusReport)
        assert [p.role for p in report.processes] == ["front", "worker"]
        assert [m.model for m in report.resident] == ["m"]


async def test_nothing_is_answered_before_hello_but_an_error(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client(hello=False)
        assert code(await client.ask(r.Status(id="s"))) == "invalid_request"
        assert isinstance(await client.hello(), Welcome)
        assert isinstance(await client.ask(r.Status(id="s2")), StatusReport)


async def test_a_version_nobody_speaks_is_refused_and_the_client_is_not_let_in(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        client = await h.client(hello=False)
        reply = await client.ask(r.Hello(id="h", versions=("2.0", "9.1")))
        assert code(reply) == "unsupported_version"
        assert isinstance(reply, Failed)
        assert reply.error.found == PROTOCOL_VERSION
        assert code(await client.ask(r.Status(id="s"))) == "invalid_request"
        assert isinstance(await client.ask(r.Hello(id="h2", versions=("2.0", "1.7"))), Welcome)


async def test_damaged_messages_each_get_an_error_and_the_front_goes_on(tmp_path: Path) -> None:
    rng = random.Random(7)
    whole = encode(r.Forward(id="f", model="m", prompts=r.Prompts(tokens=TOKENS)))
    async with house(tmp_path) as h:
        client = await h.client()
        damaged = [b"", b"\xc1", b"\x91" * 5000, b"\x81\xa4type\xa3abc", rng.randbytes(300)]
        damaged += [whole[:n] for n in range(1, len(whole), 7)]
        for _ in range(100):
            flipped = bytearray(whole)
            flipped[rng.randrange(len(whole))] = rng.randrange(256)
            damaged.append(bytes(flipped))
        for message in damaged:
            await client.send_raw([message])
        replies = [(await client.next())[0] for _ in damaged]  # some are valid by chance
        errors = [x for x in replies if isinstance(x, Failed)]
        assert len(errors) > len(damaged) / 2
        assert {e.error.code for e in errors} <= {
            "malformed_message",
            "invalid_request",
            "conflict",
            "not_found",
            "bad_shape",
            "bad_tokens",
            "too_large",
        }
        assert client.replies[UNKNOWN_ID]


async def test_an_id_is_recovered_from_a_request_that_is_wrong_otherwise(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        await client.send_raw([b"\x82\xa4type\xa3abc\xa2id\xa1x"])
        assert code(await client.final("x")) == "invalid_request"


async def test_too_long_messages_are_refused_before_they_are_kept(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, frames=4, message_nbytes=10_000, frame_nbytes=1 << 20)
    async with house(tmp_path, limits=limits) as h:
        client = await h.client()
        await client.send(r.Status(id="many"), [b""] * 4)
        assert code(await client.final("many")) == "too_large"
        await client.send(r.Status(id="long"), [bytes(20_000)])
        assert code(await client.final("long")) == "too_large"
        assert isinstance(await client.ask(r.Status(id="ok"), [b"ignored"]), StatusReport)


async def test_a_frame_over_the_limit_ends_its_senders_connection_only(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, frame_nbytes=100_000)
    async with house(tmp_path, limits=limits) as h:
        good = await h.client()
        bad = await h.client()
        await bad.send(r.Status(id="s"), [bytes(200_000)])
        await h.fleet.until(lambda: len(h.front.clients) == 1)
        assert isinstance(await good.ask(r.Status(id="s")), StatusReport)


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ({"prompts": r.Prompts(texts=())}, "bad_tokens"),
        ({"prompts": r.Prompts()}, "invalid_request"),
        ({"prompts": r.Prompts(tokens=TOKENS, texts=("a",))}, "invalid_request"),
        ({"prompts": r.Prompts(tokens=TOKENS, lengths=(1, 2))}, "bad_tokens"),
        ({"prompts": r.Prompts(texts=("a",) * 11)}, "too_large"),
        ({"prompts": r.Prompts(texts=("a" * 101,))}, "too_large"),
        ({"prompts": r.Prompts(tokens=replace(TOKENS, dtype="F32"))}, "bad_shape"),
        ({"prompts": r.Prompts(tokens=replace(TOKENS, shape=(2,)))}, "bad_shape"),
        ({"prompts": r.Prompts(tokens=replace(TOKENS, shape=(1, -2)))}, "malformed_message"),
        ({"prompts": r.Prompts(tokens=Tensor(dtype="I32", shape=(1, 1)))}, "malformed_message"),
        (
            {"prompts": r.Prompts(tokens=Tensor(dtype="I32", shape=(1, 1), frame=3))},
            "malformed_message",
        ),
        ({"model": "zzz"}, "not_found"),
    ],
)
async def test_senseless_requests_are_refused_before_they_are_queued(
    tmp_path: Path, request_fields: dict, expected: str
) -> None:
    limits = replace(DEFAULT_LIMITS, rows=10, positions=100)
    async with house(tmp_path, limits=limits) as h:
        client = await h.client()
        request = replace(client.forward(), **request_fields)
        assert code(await client.ask(request)) == expected
        assert not h.fleet.runs()


async def test_a_defect_becomes_an_error_of_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(serve.HANDLERS, r.ListSessions, broken)
    async with house(tmp_path) as h:
        client = await h.client()
        assert code(await client.ask(r.ListSessions(id="x"))) == InternalError.code
        assert "ZeroDivisionError" in caplog.text
        assert isinstance(await client.ask(r.Status(id="s")), StatusReport)


# ------------------------------------------------------------------------- queues and stopping


async def test_a_duplicate_id_is_a_conflict_and_the_first_request_goes_on(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def on_item(worker, item, request, frames) -> None:
        await gate.wait()
        await worker.answer(item, result(request.id))

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        request = client.forward(id="same")
        await client.send(request)
        await client.send(request)
        assert code(await client.partial("same")) == "conflict"
        gate.set()
        assert isinstance(await client.partial("same", 2), ForwardResult)


async def test_status_is_answered_while_every_worker_is_busy(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=never) as h:
        client = await h.client()
        for _ in range(10):
            await client.send(client.forward())
        await h.fleet.until(lambda: bool(h.fleet.runs()))
        report = await client.ask(r.Status(id="s"))
        assert isinstance(report, StatusReport)
        assert report.queued + report.running == 10
        assert report.processes[1].running


async def test_forwards_that_wait_together_become_one_run(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def on_item(worker, item, request, frames) -> None:
        await gate.wait()
        await worker.answer(item, result(request.id))

    async with house(tmp_path, on_item=on_item) as h:
        clients = [await h.client() for _ in range(4)]
        await clients[0].ask(r.LoadModel(id="l", model="m"))
        sent = [(c, await c.send(c.forward())) for _ in range(3) for c in clients]
        await h.fleet.until(lambda: h.front.dispatcher.scheduler.n_queued == 10)
        gate.set()
        for client, request_id in sent:
            assert isinstance(await client.final(request_id), ForwardResult)
        sizes = [len(run.items) for run in h.fleet.runs()]
        assert sum(sizes) == 12
        assert max(sizes) >= 5


async def test_a_full_queue_answers_busy_with_a_time_to_wait(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, queued_requests=3)
    async with house(tmp_path, limits=limits, on_item=never) as h:
        client = await h.client()
        for _ in range(3):
            await client.send(client.forward())
        reply = await client.ask(client.forward())
        assert code(reply) == "busy"
        assert isinstance(reply, Failed)
        assert reply.error.retry
        assert (reply.error.retry_after_s or 0) > 0


async def test_cancelling_queued_running_and_finished_requests(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=never) as h:
        client = await h.client()
        await client.ask(r.LoadModel(id="l", model="m"))
        running = [await client.send(client.forward()) for _ in range(2)]
        await h.fleet.until(lambda: len(h.fleet.runs()) == 2)
        queued = await client.send(client.forward())
        assert await client.ask(r.Cancel(id="c1", target=queued)) == Done(id="c1")
        assert code(await client.final(queued)) == "cancelled"
        assert await client.ask(r.Cancel(id="c2", target=running[0])) == Done(id="c2")
        assert code(await client.final(running[0])) == "cancelled"
        assert await client.ask(r.Cancel(id="c3", target=running[0])) == Done(
            id="c3", changed=False
        )
        assert await client.ask(r.Cancel(id="c4", target="unknown")) == Done(id="c4", changed=False)


async def test_a_deadline_ends_queued_and_running_work(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=never) as h:
        client = await h.client()
        await client.ask(r.LoadModel(id="l", model="m"))
        running = [await client.send(client.forward(deadline_s=0.2)) for _ in range(2)]
        queued = await client.send(client.forward(deadline_s=0.1))
        for request_id in (queued, *running):
            assert code(await client.final(request_id)) == "deadline_exceeded"
        assert {c.reason for c in h.fleet.newest.cancels} == {"deadline_exceeded"}


async def test_a_deadline_ends_an_attachment_too(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        reply = await client.ask(r.AttachSession(id="a", session="s", deadline_s=0.05))
        assert code(reply) == "deadline_exceeded"
        assert not h.front.sessions.attached


async def test_progress_is_thinned_and_replies_stay_numbered_without_gaps(tmp_path: Path) -> None:
    async def on_item(worker, item, request, frames) -> None:
        for seq in range(50):
            progress = Progress(id=request.id, seq=seq, final=False, stage="s", done=seq)
            await worker.answer(item, progress)
        await worker.answer(item, replace(result(request.id), seq=50), [b"xy"])

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        request_id = await client.send(client.forward())
        await client.final(request_id)
        got = client.replies[request_id]
        assert 2 <= len(got) < 20
        assert [reply.seq for reply, _ in got] == list(range(len(got)))
        assert got[-1][1] == [b"xy"]


# -------------------------------------------------------------------------------------- models


async def resident(h: House) -> dict[str, bool]:
    client = h.clients[0]
    report = await client.ask(r.ResidentModels(id=client.new_id()))
    assert isinstance(report, ResidentReport)
    return {m.model: m.pinned for m in report.models}


async def test_load_pin_and_unload(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        report = await client.ask(r.LoadModel(id="l", model="m", pin=True, keep_alive_s=-1.0))
        assert isinstance(report, ResidentReport)
        assert report.models[0].expires_in_s is None
        assert await resident(h) == {"m": True}
        assert await client.ask(r.PinModel(id="p", model="m", pinned=False)) == Done(id="p")
        assert await client.ask(r.UnloadModel(id="u", model="m")) == Done(id="u")
        assert await resident(h) == {}
        assert await client.ask(r.UnloadModel(id="v", model="m")) == Done(id="v", changed=False)
        assert code(await client.ask(r.UnloadModel(id="w", model="nobody"))) == "not_found"


async def test_keep_alive_zero_unloads_after_the_request(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        await client.ask(client.forward(keep_alive_s=0.0))
        await h.fleet.until(lambda: bool(h.fleet.newest.unloads))
        assert await resident(h) == {}


async def test_the_budget_evicts_idle_models_and_refuses_what_cannot_fit(tmp_path: Path) -> None:
    async with house(tmp_path, memory_budget_nbytes=250, result_cache_memory_nbytes=0) as h:
        client = await h.client()
        for name in ("m1", "m2", "m3"):
            assert isinstance(await client.ask(client.forward(name)), ForwardResult)
        assert await resident(h) == {"m2": False, "m3": False}
        h.catalog.nbytes["m-huge"] = 10_000
        assert code(await client.ask(client.forward("m-huge"))) == "out_of_memory"
        assert isinstance(await client.ask(client.forward("m1")), ForwardResult)


async def test_a_model_that_cannot_be_loaded_fails_whoever_waits_for_it(tmp_path: Path) -> None:
    fleet = FakeFleet()

    async def on_load(worker: FakeWorker, model: work.ModelKey) -> None:
        error = replace(CircuitError("half written").to_info(), code="checkpoint_error")
        await worker.send(work.LoadFailed(model=model, error=error))

    fleet.on_load = on_load  # type: ignore[method-assign] # the script of this test
    async with house(tmp_path, fleet=fleet) as h:
        client = await h.client()
        ids = [await client.send(client.forward()) for _ in range(3)]
        ids.append(await client.send(r.LoadModel(id="l", model="m")))
        for request_id in ids:
            assert code(await client.final(request_id)) == "checkpoint_error"


async def test_a_model_with_an_address_is_fetched_first(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        assert isinstance(await client.ask(client.forward("hf://org/m")), ForwardResult)
        assert h.catalog.fetched == ["hf://org/m"]


# ------------------------------------------------------------------------------------ the end


async def test_draining_finishes_accepted_work_and_refuses_new(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def on_item(worker, item, request, frames) -> None:
        await gate.wait()
        await worker.answer(item, result(request.id))

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        accepted = await client.send(client.forward())
        await h.fleet.until(lambda: bool(h.fleet.runs()))
        attached = await client.send(r.AttachSession(id="a", session="s"))
        assert await client.ask(r.Shutdown(id="x")) == Done(id="x")
        assert code(await client.ask(client.forward())) == "shutting_down"
        gate.set()
        assert isinstance(await client.final(accepted), ForwardResult)
        assert code(await client.final(attached)) == "shutting_down"
        await h.task
        assert left_in(tmp_path) <= {"circuitd.sock"}, "no discovery file, no segments"


async def test_ending_without_draining_answers_everything_that_is_open(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=never) as h:
        client = await h.client()
        ids = [await client.send(client.forward()) for _ in range(5)]
        await h.fleet.until(lambda: bool(h.fleet.runs()))
        await client.ask(r.Shutdown(id="x", drain=False))
        for request_id in ids:
            assert code(await client.final(request_id)) == "shutting_down"
        await h.task


async def test_two_hundred_connections_leave_nothing_behind(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        first = await h.client()
        await first.ask(first.forward())
        descriptors = open_descriptors()
        tasks = len(asyncio.all_tasks())
        for _ in range(20):
            batch = [await h.client() for _ in range(10)]
            for client in batch:
                await client.send(client.forward())
                await client.send(r.AttachSession(id="a", session="s"))
            for client in batch:
                await client.partial("a")
                client.close()
                h.clients.remove(client)
        await h.fleet.until(lambda: len(h.front.clients) == 1)
        await h.fleet.until(lambda: h.front.dispatcher.is_idle and not h.fleet.tasks)
        await h.fleet.until(lambda: open_descriptors() <= descriptors)
        assert len(asyncio.all_tasks()) <= tasks
        assert not h.front.sessions.attached
        assert len(h.front.book.by_client) == 0

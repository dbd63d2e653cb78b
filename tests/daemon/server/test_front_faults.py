"""Workers that die, clients that vanish, do not read or come twice: nobody else notices."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import zmq
from msgspec.structs import replace

from circuit_protocol import requests as r
from circuit_protocol.replies import (
    Done,
    Failed,
    ForwardResult,
    JobAccepted,
    JobList,
    Progress,
    ResidentReport,
    SessionEvent,
    StatusReport,
)
from circuit_protocol.session import SessionPatch
from circuitd import work
from circuitd.server.router_port import Message, RouterPort
from front_harness import PATIENCE_S, FakeFleet, FakeWorker, house, result


def code(reply: object) -> str:
    assert isinstance(reply, Failed), reply
    return reply.error.code


# ------------------------------------------------------------------------------------- workers


async def test_a_killed_worker_costs_one_request_and_everything_else_comes_back(
    tmp_path: Path,
) -> None:
    fleet = FakeFleet()

    async def on_item(worker, item, request, frames) -> None:
        if worker is fleet.workers[0]:
            await asyncio.Event().wait()
        await worker.answer(item, result(request.id))

    async with house(tmp_path, fleet=fleet, on_item=on_item) as h:
        client, other = await h.client(), await h.client()
        await client.ask(r.LoadModel(id="l", model="m", pin=True))
        guilty = await client.send(client.forward())
        await fleet.until(lambda: len(fleet.runs()) == 1)
        innocent = [await other.send(other.forward()) for _ in range(4)]
        await fleet.until(lambda: len(fleet.runs()) == 2)
        fleet.newest.kill()
        assert code(await client.final(guilty)) == "worker_died"
        for request_id in innocent:
            assert isinstance(await other.final(request_id), ForwardResult)
        report = await client.ask(r.ResidentModels(id="ps"))
        assert isinstance(report, ResidentReport)
        assert [(m.model, m.pinned) for m in report.models] == [("m", True)]
        status = await client.ask(r.Status(id="s"))
        assert isinstance(status, StatusReport)
        assert status.processes[1].restarts == 1


async def test_a_request_that_kills_every_worker_is_not_tried_for_ever(tmp_path: Path) -> None:
    async def on_item(worker, item, request, frames) -> None:
        worker.kill()

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        ids = [await client.send(client.forward()) for _ in range(2)]
        for request_id in ids:
            assert code(await client.final(request_id)) == "worker_died"


async def test_when_no_worker_can_be_started_those_who_wait_are_told(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("circuitd.server.supervisor._BACKOFF_S", (0.0,))
    fleet = FakeFleet()
    fleet.refuse_to_start = True
    async with house(tmp_path, fleet=fleet) as h:
        client = await h.client()
        assert code(await client.ask(client.forward())) == "worker_died"
        assert code(await client.ask(r.LoadModel(id="l", model="m"))) == "worker_died"
        fleet.refuse_to_start = False
        await fleet.until(lambda: bool(fleet.workers))
        assert isinstance(await client.ask(client.forward()), ForwardResult)


async def test_a_worker_that_falls_silent_is_replaced(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("circuitd.server.serve.SILENCE_S", 0.4)
    async with house(tmp_path) as h:
        client = await h.client()
        await client.ask(client.forward())
        await h.fleet.until(lambda: len(h.fleet.workers) == 2)
        assert isinstance(await client.ask(client.forward()), ForwardResult)


async def test_a_worker_that_talks_nonsense_is_replaced(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        await client.ask(client.forward())
        await h.fleet.newest.socket.send(b"nonsense")
        await h.fleet.until(lambda: len(h.fleet.workers) == 2)
        assert isinstance(await client.ask(client.forward()), ForwardResult)


# ------------------------------------------------------------------------------------- clients

VANISHING = """
import sys, zmq
from circuit_protocol import requests as r
from circuit_protocol.codec import encode
s = zmq.Context().socket(zmq.DEALER)
s.connect(sys.argv[1])
for q in (
    r.Hello(id="h", versions=("1.0",)),
    r.AttachSession(id="a", session="s"),
    r.Forward(id="f", model="m", prompts=r.Prompts(texts=("x",)), use_cache=False),
):
    s.send(encode(q))
s.recv()
input()
"""


async def test_a_client_that_is_killed_has_its_work_cancelled_at_once(tmp_path: Path) -> None:
    async def on_item(worker, item, request, frames) -> None:
        segment, _ = worker.segments.create("U8", (100,))
        progress = Progress(id=request.id, final=False, stage="s")
        await worker.answer(item, progress, segments=(segment,))
        await worker.fleet.cancelled[item.work].wait()
        error = Failed(id=request.id, error=r_cancelled)
        await worker.answer(item, error)

    from circuit_protocol.errors import Cancelled

    r_cancelled = Cancelled("cancelled").to_info()
    async with house(tmp_path, on_item=on_item) as h:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            VANISHING,
            h.front.endpoints[0],
            stdin=asyncio.subprocess.PIPE,
        )
        leases = h.front.cache.leases
        await h.fleet.until(lambda: bool(leases.held and h.front.sessions.attached), 30)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await h.fleet.until(lambda: h.front.dispatcher.is_idle)
        assert [c.reason for c in h.fleet.newest.cancels] == ["cancelled"]
        assert not h.front.clients
        assert not h.front.sessions.attached
        assert not leases.held
        assert h.fleet.newest.segments.total_nbytes() == 0


async def test_a_client_that_does_not_read_is_dropped_when_its_outbox_is_full(
    tmp_path: Path,
) -> None:
    gone: list[str] = []
    messages: list[Message] = []
    context = zmq.Context()
    port = RouterPort(
        context,
        on_message=messages.append,
        on_gone=lambda peer, reason: gone.append(reason),
        outbox_nbytes=1 << 20,
    )
    endpoint = port.bind(f"ipc://{tmp_path}/s")
    reader, deaf = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    for socket in (reader, deaf):
        socket.linger = 0
        socket.rcvhwm = 1
        socket.connect(endpoint)
        socket.send(b"hello")
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(messages) < 2:  # noqa: ASYNC110 - filled by a callback
                await asyncio.sleep(0.01)
        deaf_peer = next(m.peer for m in messages if m.peer != messages[0].peer)
        sent = 0
        async with asyncio.timeout(PATIENCE_S):
            while not gone and sent < 100_000:
                port.send(deaf_peer, [bytes(50_000)])
                sent += 1
                await asyncio.sleep(0)
        assert gone == ["it does not read what it is sent"]
        port.send(deaf_peer, [b"ignored"])
        port.send(messages[0].peer, [b"hi"])
    finally:
        port.close()
        for socket in (reader, deaf):
            socket.close(0)
        context.term()


async def test_a_slow_reader_gets_everything_in_order_and_holds_up_nobody(tmp_path: Path) -> None:
    n = 400

    async def on_item(worker, item, request, frames) -> None:
        for i in range(n):
            part = replace(result(request.id), seq=i, final=i == n - 1)
            await worker.answer(item, part, [bytes([i % 256]) * 20_000])

    async with house(tmp_path, on_item=on_item) as h:
        slow, quick = await h.client(), await h.client()
        request_id = await slow.send(slow.forward())
        await h.fleet.until(lambda: bool(h.fleet.runs()) and h.front.dispatcher.is_idle)
        assert isinstance(await quick.ask(r.Status(id="s")), StatusReport)
        await slow.final(request_id)
        got = slow.replies[request_id]
        assert [reply.seq for reply, _ in got] == list(range(n))
        assert all(frames == [bytes([i % 256]) * 20_000] for i, (_, frames) in enumerate(got))


async def test_a_retry_over_a_new_connection_gets_the_first_answer(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        first, second = await h.client(), await h.client()
        await first.ask(first.forward(id="one", idempotency_key="k"))
        reply = await second.ask(second.forward(id="two", idempotency_key="k"))
        assert isinstance(reply, ForwardResult)
        assert reply.id == "two"
        assert len(h.fleet.runs()) == 1
        other = second.forward("m2", id="three", idempotency_key="k")
        assert code(await second.ask(other)) == "conflict"


# ------------------------------------------------------------------------------------ sessions


async def test_everyone_attached_sees_what_anyone_changes(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        tui, editor, script = [await h.client() for _ in range(3)]
        for client in (tui, editor):
            await client.send(r.AttachSession(id="a", session="s"))
            await client.partial("a")
        changed = await script.ask(
            r.UpdateSession(id="u", session="s", patch=SessionPatch(model="m", k=3), revision=0)
        )
        assert isinstance(changed, SessionEvent)
        assert (changed.state.revision, changed.attached) == (1, 2)
        for client in (tui, editor):
            event = await client.partial("a", 2)
            assert isinstance(event, SessionEvent)
            assert event.state == changed.state
            assert not event.final
        stale = r.UpdateSession(id="v", session="s", patch=SessionPatch(k=4), revision=0)
        assert code(await editor.ask(stale)) == "conflict"
        await editor.send(r.Cancel(id="c", target="a"))
        assert code(await editor.final("a")) == "cancelled"
        assert await script.ask(r.CloseSession(id="x", session="s")) == Done(id="x")
        end = await tui.final("a")
        assert isinstance(end, SessionEvent)
        assert end.closed
        assert code(await script.ask(r.GetSession(id="g", session="s"))) == "not_found"


# ---------------------------------------------------------------------------------------- jobs


async def job_state(client, job: str) -> str:
    found = await client.ask(r.GetJob(id=client.new_id(), job=job))
    assert isinstance(found, JobList)
    return found.jobs[0].state


async def test_a_job_is_watched_to_the_reply_its_request_would_have_had(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def on_item(worker, item, request, frames) -> None:
        assert item.checkpoint_dir is not None
        await worker.answer(item, Progress(id=request.id, final=False, stage="x", done=1, total=2))
        await gate.wait()
        await worker.answer(item, replace(result(request.id), seq=1, loss=0.5), [b"frame"])

    async with house(tmp_path, on_item=on_item) as h:
        client, watcher = await h.client(), await h.client()
        accepted = await client.ask(client.forward(detach=True))
        assert isinstance(accepted, JobAccepted)
        await watcher.send(r.WatchJob(id="w", job=accepted.job))
        await watcher.partial("w")
        gate.set()
        reply = await watcher.final("w")
        assert isinstance(reply, ForwardResult)
        assert reply.loss == 0.5
        assert [x.seq for x, _ in watcher.replies["w"]] == list(range(reply.seq + 1))
        again = await watcher.ask(r.WatchJob(id="w2", job=accepted.job))
        assert again == replace(reply, id="w2", seq=0)
        assert await job_state(client, accepted.job) == "done"
        assert code(await watcher.ask(r.WatchJob(id="w3", job="j-none"))) == "not_found"


async def test_a_job_survives_its_client_its_worker_and_the_daemon(tmp_path: Path) -> None:
    async def stuck(worker: FakeWorker, item: work.Item, request, frames) -> None:
        await asyncio.Event().wait()

    async with house(tmp_path, on_item=stuck) as h:
        client = await h.client()
        accepted = await client.ask(client.forward(detach=True, id="original"))
        assert isinstance(accepted, JobAccepted)
        client.close()
        await h.fleet.until(lambda: len(h.fleet.runs()) == 1)
        h.fleet.newest.kill()
        await h.fleet.until(lambda: len(h.fleet.runs()) == 2)
        before = h.fleet.runs()[0].items[0]
        assert h.fleet.runs()[1].items[0].checkpoint_dir == before.checkpoint_dir

    gate = asyncio.Event()

    async def finishes(worker: FakeWorker, item: work.Item, request, frames) -> None:
        assert item.header == before.header
        assert item.checkpoint_dir == before.checkpoint_dir
        await gate.wait()
        await worker.answer(item, result(request.id))

    async with house(tmp_path, on_item=finishes) as h:
        client = await h.client()
        await client.send(r.WatchJob(id="w", job=accepted.job))
        await client.partial("w")
        gate.set()
        assert isinstance(await client.final("w"), ForwardResult)
        found = await client.ask(r.ListJobs(id="l"))
        assert isinstance(found, JobList)
        assert [(j.state, j.resumes >= 2) for j in found.jobs] == [("done", True)]


async def test_a_job_that_keeps_killing_workers_fails(tmp_path: Path) -> None:
    async def on_item(worker, item, request, frames) -> None:
        worker.kill()

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        accepted = await client.ask(client.forward(detach=True))
        assert isinstance(accepted, JobAccepted)
        assert code(await client.ask(r.WatchJob(id="w", job=accepted.job))) == "worker_died"
        assert await job_state(client, accepted.job) == "failed"
        assert len(h.fleet.runs()) == 3


async def test_a_cancelled_job_stays_cancelled(tmp_path: Path) -> None:
    async def on_item(worker, item, request, frames) -> None:
        await worker.fleet.cancelled[item.work].wait()
        from circuit_protocol.errors import Cancelled

        await worker.answer(item, Failed(id=request.id, error=Cancelled("x").to_info()))

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        accepted = await client.ask(client.forward(detach=True))
        assert isinstance(accepted, JobAccepted)
        await h.fleet.until(lambda: bool(h.fleet.runs()))
        assert await client.ask(r.CancelJob(id="c", job=accepted.job)) == Done(id="c")
        assert code(await client.ask(r.WatchJob(id="w", job=accepted.job))) == "cancelled"
        assert await job_state(client, accepted.job) == "cancelled"
        assert await client.ask(r.CancelJob(id="d", job=accepted.job)) == Done(
            id="d", changed=False
        )

"""Things that come at the wrong moment: a client leaves, wakes or cancels between two others."""

import asyncio
import threading
from pathlib import Path

from msgspec.structs import replace

from circuit_protocol import requests as r
from circuit_protocol.errors import Cancelled
from circuit_protocol.replies import Done, Failed, ForwardResult, JobAccepted, JobList
from circuit_protocol.tensors import Handle
from circuitd import work
from circuitd.server.catalog import Located
from circuitd.settings import DEFAULT_LIMITS
from front_harness import PATIENCE_S, FakeCatalog, FakeWorker, House, house, result


def code(reply: object) -> str:
    assert isinstance(reply, Failed), reply
    return reply.error.code


class Gate:
    """Work lasts until the gate is opened, or it is cancelled."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def __call__(
        self, worker: FakeWorker, item: work.Item, request: r.AnyRequest, frames: list[bytes]
    ) -> None:
        cancelled = asyncio.create_task(worker.fleet.cancelled[item.work].wait())
        opened = asyncio.create_task(self.event.wait())
        done, left = await asyncio.wait({cancelled, opened}, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        if cancelled in done:
            raise Cancelled("the worker was told to stop")
        await worker.answer(item, result(request.id))


def items(h: House) -> int:
    """How many items the workers have been given."""
    return sum(len(run.items) for run in h.fleet.runs())


async def test_a_client_at_its_bound_may_still_cancel(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, queued_requests=2)
    async with house(tmp_path, limits=limits, on_item=Gate()) as h:
        client = await h.client()
        sent = [await client.send(client.forward()) for _ in range(2)]
        assert code(await client.ask(client.forward())) == "busy"
        assert await client.ask(r.Cancel(id="c", target=sent[1])) == Done(id="c")
        assert code(await client.final(sent[1])) == "cancelled"


# ------------------------------------------------------------------------------------- retries


async def test_a_retry_is_carried_out_when_the_first_try_goes_with_its_client(
    tmp_path: Path,
) -> None:
    gate = Gate()
    async with house(tmp_path, on_item=gate) as h:
        first, second = await h.client(), await h.client()
        await first.send(first.forward(id="one", idempotency_key="k"))
        await first.send(first.forward(id="another"))
        await h.fleet.until(lambda: items(h) == 2)
        await second.send(second.forward(id="two", idempotency_key="k"))
        await second.settle()
        first.close()
        await h.fleet.until(lambda: len(h.front.clients) == 1)
        gate.event.set()
        assert isinstance(await second.final("two"), ForwardResult)
        await h.fleet.until(lambda: not h.front.dispatcher.owners)


async def test_a_cancelled_retrys_id_may_be_used_again(tmp_path: Path) -> None:
    gate = Gate()
    async with house(tmp_path, on_item=gate) as h:
        first, second = await h.client(), await h.client()
        await first.send(first.forward(id="one", idempotency_key="k"))
        await first.settle()
        await second.send(second.forward(id="two", idempotency_key="k"))
        await second.ask(r.Cancel(id="c", target="two"))
        assert code(await second.final("two")) == "cancelled"
        second.replies.clear()
        await second.send(r.AttachSession(id="two", session="s"))
        await second.partial("two")
        gate.event.set()
        await first.final("one")
        await second.settle()
        assert [reply.final for reply, _ in second.replies["two"]] == [False]


async def test_a_retry_waits_no_longer_than_its_own_deadline(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=Gate()) as h:
        client = await h.client()
        await client.send(client.forward(idempotency_key="k"))
        retry = client.forward(idempotency_key="k", deadline_s=0.05)
        assert code(await client.ask(retry)) == "deadline_exceeded"


# ------------------------------------------------------------------------------------- tensors


async def test_tensors_for_a_client_that_has_left_are_not_held(tmp_path: Path) -> None:
    gate, answered = asyncio.Event(), asyncio.Event()

    async def on_item(worker, item, request, frames) -> None:
        await gate.wait()
        segment, _ = worker.segments.create("U8", (1000,))
        handle = Handle(handle=segment.handle, dtype="U8", shape=(1000,), nbytes=1000)
        await worker.answer(item, result(request.id, logits=handle), segments=(segment,))
        answered.set()

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        await client.send(client.forward(use_cache=True))
        await h.fleet.until(lambda: len(h.fleet.runs()) == 1)
        client.close()
        await h.fleet.until(lambda: not h.front.clients)
        gate.set()
        await answered.wait()
        await h.fleet.until(lambda: not h.front.dispatcher.owners)
        assert not h.front.cache.leases.held
        assert h.fleet.newest.segments.total_nbytes() == 0


# -------------------------------------------------------------------------------------- models


class SlowCatalog(FakeCatalog):
    """A model with an address takes until `arrived` to fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()

    def fetch(self, name: str, dtype: r.DTypeName, sha256: str | None = None) -> Located:
        self.arrived.wait()
        return super().fetch(name, dtype, sha256)


async def test_a_deadline_counts_while_the_model_is_fetched(tmp_path: Path) -> None:
    catalog = SlowCatalog()
    async with house(tmp_path, catalog=catalog) as h:
        client = await h.client()
        try:
            reply = await client.ask(client.forward("hf://x/y", deadline_s=0.05))
        finally:
            catalog.arrived.set()
        assert code(reply) == "deadline_exceeded"
        assert h.front.dispatcher.is_idle


async def test_whoever_unloads_a_model_is_told_when_it_is_wanted_again(tmp_path: Path) -> None:
    gate = Gate()
    async with house(tmp_path, on_item=gate) as h:
        client, other = await h.client(), await h.client()
        await client.send(client.forward(id="running"))
        await h.fleet.until(lambda: len(h.fleet.runs()) == 1)
        await other.send(r.UnloadModel(id="u", model="m"))
        await other.settle()
        await client.send(client.forward(id="wants it too"))
        refusal = await other.final("u")
        assert code(refusal) == "conflict"
        gate.event.set()
        assert isinstance(await client.final("wants it too"), ForwardResult)
        assert await other.ask(r.UnloadModel(id="u2", model="m")) == Done(id="u2")


# ------------------------------------------------------------------------------ jobs and the end


async def test_what_would_not_fit_into_the_queue_is_no_job(tmp_path: Path) -> None:
    limits = replace(DEFAULT_LIMITS, queued_requests=2)
    async with house(tmp_path, limits=limits, on_item=Gate()) as h:
        client = await h.client()
        accepted = 0
        while isinstance(reply := await client.ask(client.forward(detach=True)), JobAccepted):
            accepted += 1
            assert accepted <= 10
        assert code(reply) == "busy"
        found = await client.ask(r.ListJobs(id="l"))
        assert isinstance(found, JobList)
        assert {job.state for job in found.jobs} <= {"queued", "running"}
        assert len(found.jobs) == accepted

    # All of them go on, though none has a worker yet when the next daemon queues them.
    gate = Gate()
    async with house(tmp_path, limits=limits, on_item=gate) as h:
        gate.event.set()
        client = await h.client()
        for job in found.jobs:
            reply = await client.ask(r.WatchJob(id=client.new_id(), job=job.job))
            assert isinstance(reply, ForwardResult)


async def test_a_drain_ends_when_somebody_says_now(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=Gate()) as h:
        client = await h.client()
        await client.send(client.forward(id="long"))
        await h.fleet.until(lambda: len(h.fleet.runs()) == 1)
        assert await client.ask(r.Shutdown(id="s", drain=True)) == Done(id="s")
        now = r.Shutdown(id="n", drain=False)
        assert await client.ask(now) == Done(id="n", changed=False)
        assert code(await client.final("long")) == "shutting_down"
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(h.task)

"""Held tensors fetched in chunks, answers given a second time, and files that change."""

import stat
from pathlib import Path

import numpy as np
import pytest

from circuit_protocol import requests as r
from circuit_protocol.replies import (
    CacheEntries,
    CacheFreed,
    CacheReport,
    Chunk,
    Done,
    Failed,
    ForwardResult,
    JobAccepted,
    Mapped,
    Welcome,
)
from circuit_protocol.tensors import Handle
from circuitd import work
from front_harness import FakeWorker, House, WireClient, house, result

N = 3_000_000


async def held_logits(
    worker: FakeWorker, item: work.Item, request: r.AnyRequest, frames: list[bytes]
) -> None:
    """Answer with logits that stay in the daemon."""
    segment, array = worker.segments.create("U8", (N,), description="logits")
    array[:] = np.arange(N, dtype=np.uint8)
    handle = Handle(handle=segment.handle, dtype="U8", shape=(N,), nbytes=N)
    await worker.answer(item, result(request.id, logits=handle), segments=(segment,))


async def handle_for(client: WireClient, **fields) -> str:
    reply = await client.ask(client.forward(**fields))
    assert isinstance(reply, ForwardResult)
    assert isinstance(reply.logits, Handle)
    return reply.logits.handle


def code(reply: object) -> str:
    assert isinstance(reply, Failed), reply
    return reply.error.code


def segments(h: House) -> int:
    return h.fleet.newest.segments.total_nbytes()


async def test_a_held_tensor_comes_in_chunks_within_the_credit(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client = await h.client()
        handle = await handle_for(client)
        await client.send(r.Fetch(id="f", handle=handle, chunk_nbytes=100_000, credit=2))
        await client.settle()
        assert len(client.replies["f"]) == 2
        for _ in range(14):
            await client.send(r.Credit(id="f", chunks=2))
        await client.final("f")
        got = client.replies["f"]
        assert [c.offset for c, _ in got if isinstance(c, Chunk)] == list(range(0, N, 100_000))
        data = b"".join(frames[0] for _, frames in got)
        assert data == np.arange(N, dtype=np.uint8).tobytes()
        await client.send(r.Credit(id="f", chunks=1))  # too late, and no error
        part = await client.ask(r.Fetch(id="g", handle=handle, offset=5, nbytes=10))
        assert isinstance(part, Chunk)
        assert client.replies["g"][0][1] == [bytes(range(5, 15))]
        outside = r.Fetch(id="o", handle=handle, offset=N, nbytes=1)
        assert code(await client.ask(outside)) == "invalid_request"


async def test_a_fetch_without_credit_can_be_cancelled(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client = await h.client()
        handle = await handle_for(client)
        await client.send(r.Fetch(id="f", handle=handle, chunk_nbytes=1024, credit=1))
        assert await client.ask(r.Cancel(id="c", target="f")) == Done(id="c")
        assert code(await client.final("f")) == "cancelled"


async def test_a_handle_is_its_clients_own_until_released(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client, other = await h.client(), await h.client()
        handle = await handle_for(client)
        assert code(await other.ask(r.Fetch(id="f", handle=handle))) == "not_found"
        assert await other.ask(r.Release(id="r", handles=(handle,))) == Done(id="r", changed=False)
        assert await client.ask(r.Release(id="r", handles=(handle, "t-x"))) == Done(id="r")
        assert code(await client.ask(r.Fetch(id="f", handle=handle))) == "not_found"
        assert segments(h) == 0


async def test_a_local_client_is_told_where_a_tensor_lies(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client, other = await h.client(hello=False), await h.client()
        welcome = await client.hello()
        assert isinstance(welcome, Welcome)
        assert welcome.capabilities == ("tensor.map",)
        handle = await handle_for(client)
        mapped = await client.ask(r.MapTensor(id="m", handle=handle))
        assert isinstance(mapped, Mapped)
        path = Path(mapped.path)
        assert (path.name, mapped.nbytes) == (handle, N)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600  # noqa: ASYNC240
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        view = np.memmap(path, np.uint8, "r")
        assert code(await other.ask(r.MapTensor(id="m", handle=handle))) == "not_found"
        await client.ask(r.Release(id="r", handles=(handle,)))
        assert not path.exists()  # noqa: ASYNC240
        np.testing.assert_array_equal(view, np.arange(N, dtype=np.uint8))
        assert code(await client.ask(r.MapTensor(id="n", handle=handle))) == "not_found"


async def test_a_tensor_whose_file_has_gone_is_not_found(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client = await h.client()
        handle = await handle_for(client)
        (h.fleet.newest.segments.path / handle).unlink()
        assert code(await client.ask(r.MapTensor(id="m", handle=handle))) == "not_found"
        assert code(await client.ask(r.Fetch(id="f", handle=handle))) == "not_found"


async def test_tensors_of_a_client_that_left_are_let_go(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client = await h.client()
        await handle_for(client)
        client.close()
        await h.fleet.until(lambda: segments(h) == 0)


async def test_what_may_be_held_is_bounded(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits, segment_budget_nbytes=2 * N) as h:
        client = await h.client()
        first = await handle_for(client)
        await handle_for(client)
        assert code(await client.ask(client.forward())) == "out_of_memory"
        await client.ask(r.Release(id="r", handles=(first,)))
        await handle_for(client)
        assert h.front.cache.leases.nbytes == segments(h) == 2 * N


async def test_a_reduction_gets_the_tensor_it_names(tmp_path: Path) -> None:
    seen: list[work.Item] = []

    async def on_item(worker, item, request, frames) -> None:
        seen.append(item)
        await held_logits(worker, item, request, frames)

    async with house(tmp_path, on_item=on_item) as h:
        client = await h.client()
        handle = await handle_for(client)
        await client.ask(r.Reduce(id="x", handle=handle, how="norm"))
        assert [s.handle for s in seen[1].segments] == [handle]
        unknown = r.Reduce(id="y", handle="t-none", how="norm")
        assert code(await client.ask(unknown)) == "not_found"


# --------------------------------------------------------------------------------------- cache


async def test_the_same_question_is_answered_from_the_cache_for_everyone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        one, two = await h.client(), await h.client()
        await one.ask(one.forward(use_cache=True, top_k=3))
        reply = await two.ask(two.forward(use_cache=True, top_k=3, keep_alive_s=9.0, id="other"))
        assert isinstance(reply, ForwardResult)
        assert (reply.cached, reply.id, reply.seq) == (True, "other", 0)
        assert len(h.fleet.runs()) == 1
        for different in ({"top_k": 4}, {"dtype": "bfloat16", "top_k": 3}, {"use_cache": False}):
            reply = await two.ask(two.forward(**{"use_cache": True, **different}))
            assert isinstance(reply, ForwardResult)
            assert not reply.cached


async def test_a_task_that_no_file_can_be_named_after_is_still_the_workers_to_refuse(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        await client.ask(r.LoadModel(id="l", model="m"))
        hook = r.Hook(
            id="h", model="m", input=r.TaskInput(task="a\0b"), records=(r.Record(site="x"),)
        )
        assert isinstance(await client.ask(hook), ForwardResult)  # what this worker always says


async def test_a_changed_model_file_makes_old_answers_unreachable(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        await client.ask(client.forward(use_cache=True))
        h.catalog.versions["m"] += 1
        reply = await client.ask(client.forward(use_cache=True))
        assert isinstance(reply, ForwardResult)
        assert not reply.cached
        await h.fleet.until(lambda: len(h.fleet.newest.unloads) == 1)  # the old state of the files


async def test_answers_survive_the_daemon_and_errors_are_not_kept(tmp_path: Path) -> None:
    async def failing(worker, item, request, frames) -> None:
        from circuit_protocol.errors import BadTokens

        raise BadTokens("no")

    async with house(tmp_path, on_item=failing) as h:
        client = await h.client()
        assert code(await client.ask(client.forward(use_cache=True))) == "bad_tokens"
    async with house(tmp_path) as h:
        client = await h.client()
        reply = await client.ask(client.forward(use_cache=True))
        assert isinstance(reply, ForwardResult)
        assert not reply.cached
    async with house(tmp_path) as h:
        client = await h.client()
        reply = await client.ask(client.forward(use_cache=True))
        assert isinstance(reply, ForwardResult)
        assert reply.cached


async def test_a_cached_answer_with_a_handle_leases_it_to_the_next_asker(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        one, two = await h.client(), await h.client()
        handle = await handle_for(one, use_cache=True)
        one.close()
        await h.fleet.until(lambda: len(h.front.clients) == 1)
        assert segments(h) == N
        assert await handle_for(two, use_cache=True) == handle
        await two.ask(r.Fetch(id="f", handle=handle))
        freed = await two.ask(r.CacheEvict(id="e", kind="activations", key=handle))
        assert freed == CacheFreed(id="e", entries=1, nbytes=N)
        assert await handle_for(two, use_cache=True) != handle


async def test_who_watches_a_job_can_fetch_what_its_reply_names(tmp_path: Path) -> None:
    async with house(tmp_path, on_item=held_logits) as h:
        client, watcher = await h.client(), await h.client()
        accepted = await client.ask(client.forward(detach=True))
        assert isinstance(accepted, JobAccepted)
        client.close()
        reply = await watcher.ask(r.WatchJob(id="w", job=accepted.job))
        assert isinstance(reply, ForwardResult)
        assert isinstance(reply.logits, Handle)
        await watcher.ask(r.Fetch(id="f", handle=reply.logits.handle, credit=16))
        assert sum(len(frames[0]) for _, frames in watcher.replies["f"]) == N


async def test_a_job_with_a_cached_answer_is_done_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client()
        await client.ask(client.forward(use_cache=True))
        accepted = await client.ask(client.forward(use_cache=True, detach=True))
        assert isinstance(accepted, JobAccepted)
        reply = await client.ask(r.WatchJob(id="w", job=accepted.job))
        assert isinstance(reply, ForwardResult)
        assert reply.cached


@pytest.mark.parametrize("kind", ["models", "activations", "results", "artefacts", "tokenizers"])
async def test_every_kind_of_cache_answers_the_same_questions(
    tmp_path: Path, kind: r.CacheKind
) -> None:
    artefact = tmp_path / "cache" / "artefacts" / "remote" / "abc"
    artefact.mkdir(parents=True)
    (artefact / "weights").write_bytes(bytes(10))
    async with house(tmp_path, on_item=held_logits) as h:
        client = await h.client()
        await handle_for(client, use_cache=True)
        report = await client.ask(r.CacheStats(id="s"))
        assert isinstance(report, CacheReport)
        assert {k.kind: k.entries for k in report.kinds}[kind] == 1
        found = await client.ask(r.CacheList(id="l", kind=kind))
        assert isinstance(found, CacheEntries)
        key = found.entries[0].key
        unknown = await client.ask(r.CacheEvict(id="u", kind=kind, key="nonsense"))
        assert code(unknown) in ("not_found", "invalid_request")
        if kind == "tokenizers":
            return
        assert isinstance(await client.ask(r.CachePin(id="p", kind=kind, key=key)), Done)
        assert await client.ask(r.CacheClear(id="c", kind=kind)) == CacheFreed(
            id="c", entries=0, nbytes=0
        )
        freed = await client.ask(r.CacheEvict(id="e", kind=kind, key=key))
        assert isinstance(freed, CacheFreed)
        assert freed.entries == 1

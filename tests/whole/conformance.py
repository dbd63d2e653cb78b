"""The conformance checks as the Python client runs them: one list for its sync and async forms.

Names are those of `node/conformance.mjs`, which also checks what a typed client cannot say wrong
(malformed frames, credit, ids). A check gets a connection `c`, and `connect` for another one;
`got` waits for whatever either form of the client returns.
"""

import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np
import pytest

from circuit_client import iv
from circuit_protocol import errors
from circuit_protocol.session import SelectedNode, SessionPatch

LINE = "def double(x):\n    return x * 2\n"
#: Long enough to be caught in the act, and never to be waited for.
LONG: dict[str, Any] = {
    "task": "single_double_quote",
    "n": 8,
    "every": "node",
    "kind": "zero",
    "use_cache": False,
}

Connect = Callable[[], AbstractAsyncContextManager[Any]]
Check = Callable[[Any, Connect], Awaitable[None]]

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Put a check on the list."""
    CHECKS[function.__name__] = function
    return function


async def got(value: Any) -> Any:
    """`value`, awaited where the asynchronous client gave a coroutine."""
    return await value if inspect.isawaitable(value) else value


async def events(stream: Any) -> AsyncIterator[Any]:
    """The events of either kind of stream."""
    if hasattr(stream, "__aiter__"):
        async for event in stream:
            yield event
    else:
        for event in stream:
            yield event


async def first(stream: Any) -> Any:
    """The next event of either kind of stream."""
    return await stream.__anext__() if hasattr(stream, "__anext__") else next(stream)


async def fails(error: type[errors.CircuitError], ask: Callable[[], Any]) -> Any:
    """The error that `ask` must end in."""
    with pytest.raises(error) as caught:
        await got(ask())
    assert type(caught.value) is error
    return caught.value


async def line_tokens(c: Any) -> list[int]:
    """The tokens of LINE."""
    (row,) = await got(c.tokenize(LINE))
    return [token.id for token in row]


@check
async def hello_welcomes(c, connect):
    assert c.welcome.version.split(".")[0] == "1"
    assert c.welcome.limits.frame_nbytes > 0
    async with connect() as other:
        assert other.welcome.instance == c.welcome.instance


@check
async def status_tells_processes_and_limits(c, connect):
    status = await got(c.status())
    assert status.instance == c.welcome.instance
    assert [p.pid for p in status.processes if p.role == "front"] == [c.welcome.pid]
    assert status.clients >= 1


@check
async def models_are_listed_and_described(c, connect):
    models = {m.name: m for m in await got(c.models.list())}
    described = await got(c.models.describe())
    summary = models[c.welcome.default_model]
    assert described.n_nodes == summary.n_nodes
    assert sum(s.width for s in described.sites if s.is_node_site) == described.n_nodes


@check
async def tokens_join_to_the_text(c, connect):
    texts = [LINE, "é✓ # ok"]
    rows = await got(c.tokenize(texts))
    for row, text in zip(rows, texts, strict=True):
        assert b"".join(t.data for t in row) == text.encode()
        assert [t.offset for t in row] == [
            sum(len(t.data) for t in row[:i]) for i in range(len(row))
        ]
    back = await got(c.detokenize([[t.id for t in row] for row in rows]))
    assert [piece.text for piece in back] == texts


@check
async def tasks_are_listed_shown_and_sampled(c, connect):
    assert len(await got(c.tasks.list())) >= 20
    assert len((await got(c.tasks.show("bracket_counting", n=2))).pairs) == 2
    sample = await got(c.tasks.sample("bracket_counting", n=4))
    assert sample.tokens.shape[0] == len(sample.lengths) == len(sample.answers) == 8
    assert (sample.lengths <= sample.tokens.shape[1]).all()


@check
async def logits_come_in_a_frame(c, connect):
    tokens = await line_tokens(c)
    answer = await got(c.forward(tokens=[tokens]))
    assert answer.logits.shape[:2] == (1, len(tokens))
    assert np.isfinite(answer.logits).all()
    assert answer.tokens.tolist() == [tokens]
    last = await got(c.forward(tokens=[tokens], logits="last"))
    np.testing.assert_allclose(last.logits[:, 0], answer.logits[:, -1], rtol=1e-4, atol=1e-4)


@check
async def tokens_may_come_inline_or_in_a_frame(c, connect):
    tokens = await line_tokens(c)
    one = await got(c.forward(tokens=[tokens], logits="last", use_cache=False))
    wide = np.tile(np.asarray(tokens), (40, 1))
    many = await got(c.forward(tokens=wide, logits="last", use_cache=False))
    text = await got(c.forward(text=LINE, logits="last", use_cache=False))
    np.testing.assert_allclose(text.logits, one.logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(many.logits[39:], one.logits, rtol=1e-4, atol=1e-4)


@check
async def losses_are_those_of_the_logits(c, connect):
    answer = await got(c.forward(text=LINE, targets="next", token_loss=True))
    logits = answer.logits[0].astype(np.float64)
    top = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
    targets = answer.tokens[0, 1:]
    expected = log_sum[:-1] - logits[np.arange(len(targets)), targets]
    np.testing.assert_allclose(answer.token_loss[0, :-1], expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(answer.token_loss[0, -1])
    assert answer.loss == pytest.approx(expected.mean(), rel=1e-4)


@check
async def ragged_rows_are_computed_alone(c, connect):
    tokens = await line_tokens(c)
    both = await got(c.forward(tokens=[tokens, tokens[:5]], logits="last"))
    alone = await got(c.forward(tokens=[tokens[:5]], logits="last"))
    np.testing.assert_allclose(both.logits[1], alone.logits[0], rtol=1e-4, atol=1e-4)


@check
async def interventions_are_values(c, connect):
    async def loss(*interventions):
        answer = await got(
            c.forward(text=LINE, targets="next", logits="none", interventions=interventions)
        )
        return answer.loss

    at = "0.mlp.post_act"
    bare, zero = await loss(), await loss(iv.zero(at))
    assert await loss(iv.scale(at, 0.0)) == pytest.approx(zero, rel=1e-5)
    assert await loss(iv.scale(at, 1.0)) == pytest.approx(bare, rel=1e-5)
    assert await loss(iv.set(at, 3.0), iv.zero(at)) == pytest.approx(zero, rel=1e-5)
    assert zero != bare


@check
async def recorded_values_come_back(c, connect):
    answer = await got(c.hook(text=LINE, sites="*.resid_mid"))
    described = await got(c.models.describe())
    assert list(answer.sites) == [s.site for s in described.sites if s.site.endswith(".resid_mid")]
    for site in answer.sites:
        assert answer[site].shape[:2] == answer.tokens.shape
        assert np.isfinite(answer[site]).all()


@check
async def patching_a_run_with_itself_changes_nothing(c, connect):
    at = "0.attn.resid_delta"
    held = (await got(c.hook(text=LINE, sites=at, deliver="handle"))).value(at)
    assert not held.is_here
    ask = {"text": LINE, "targets": "next", "logits": "none"}
    bare = await got(c.forward(**ask))
    patched = await got(c.forward(**ask, interventions=iv.patch(at, held)))
    assert patched.loss == pytest.approx(bare.loss, rel=1e-5)


@check
async def handle_is_fetched_by_chunks_with_credit(c, connect):
    ask = {"text": LINE, "sites": "0.resid_mid", "use_cache": False}
    inline = await got(c.hook(**ask, deliver="inline"))
    held = (await got(c.hook(**ask, deliver="handle"))).value("0.resid_mid")
    assert not held.is_here
    fetched = await got(c.tensors.fetch(held))
    np.testing.assert_array_equal(fetched, inline["0.resid_mid"])


@check
async def held_tensor_is_reduced_and_released(c, connect):
    answer = await got(c.hook(text=LINE, sites="0.resid_mid", deliver="handle"))
    held = answer.value("0.resid_mid")
    part = await got(c.tensors.slice(held, 0, 2, slice(0, 8, 2)))
    top = await got(c.tensors.top_k(held, 3))
    whole = np.asarray(await got(c.tensors.fetch(held)))
    np.testing.assert_array_equal(np.ravel(part.value), whole[0, 2, 0:8:2])
    largest = whole.ravel()[np.argsort(-np.abs(whole.ravel()))[:3]]
    np.testing.assert_array_equal(np.ravel(top.value), largest)


@check
async def generated_tokens_are_streamed(c, connect):
    stream = c.generate(text=LINE, max_new_tokens=6)
    steps = [step async for step in events(stream)]
    result = await got(stream.result())
    assert [step.token for step in steps] == list(result.tokens)
    assert b"".join(step.data for step in steps).decode() == result.text


@check
async def ablations_come_in_parts(c, connect):
    ask = {"task": "single_double_quote", "n": 4, "every": "layer", "kind": "zero"}
    stream = c.ablate.start(**ask, use_cache=False)
    parts = [event async for event in events(stream) if hasattr(event, "losses")]
    result = await got(stream.result())
    np.testing.assert_allclose(result.deltas, result.losses - result.base_loss, atol=1e-4)
    assert len(result.things) == len(result.losses)
    for part in parts:
        same = result.losses[part.start : part.start + len(part.losses)]
        np.testing.assert_allclose(part.losses, same, rtol=1e-5)


@check
async def cancel_ends_a_long_request(c, connect):
    stream = c.ablate.start(**LONG)
    await first(stream)
    began = time.monotonic()
    stream.cancel()
    await fails(errors.Cancelled, stream.result)
    assert time.monotonic() - began < 10, "within one step"


@check
async def deadline_ends_a_long_request(c, connect):
    await fails(errors.DeadlineExceeded, lambda: c.ablate(**LONG, deadline_s=0.3))


@check
async def status_overtakes_long_requests(c, connect):
    stream = c.ablate.start(**LONG, priority="batch")
    await first(stream)
    began = time.monotonic()
    await got(c.status())
    assert time.monotonic() - began < 5
    await got(c.forward(text=LINE, logits="last", use_cache=False))
    assert not stream.done
    stream.cancel()
    await fails(errors.Cancelled, stream.result)


@check
async def client_that_leaves_is_cancelled(c, connect):
    async def running() -> int:
        status = await got(c.status())
        return sum("ablate" in r for p in status.processes for r in p.running)

    async with connect() as other:
        stream = other.ablate.start(**LONG)
        await first(stream)
        assert await running() == 1
    deadline = time.monotonic() + 20
    while await running():
        assert time.monotonic() < deadline, "its request still runs"


@check
async def second_answer_comes_from_the_cache(c, connect):
    ask = {"text": f"# {uuid.uuid4()}\n", "logits": "last", "top_k": 3}
    answer = await got(c.forward(**ask))
    assert not answer.raw.cached
    again = await got(c.forward(**ask))
    assert again.raw.cached
    np.testing.assert_array_equal(again.logits, answer.logits)
    assert not (await got(c.forward(**ask, use_cache=False))).raw.cached


@check
async def sessions_are_shared(c, connect):
    name = f"conformance-{uuid.uuid4()}"
    async with connect() as other:
        follower = c.sessions.attach(name)
        before = (await first(follower)).state.revision
        node = SelectedNode(site="0.attn.v", channel=1)
        patch = SessionPatch(task="with_open", k=12, node=node)
        updated = await got(other.sessions.update(name, patch))
        assert (await first(follower)).state == updated
        assert updated.revision == before + 1
        await got(other.sessions.update(name, SessionPatch(k=None)))
        emptied = (await first(follower)).state
        assert emptied.k is None
        assert emptied.task == "with_open"
        await fails(
            errors.Conflict,
            lambda: other.sessions.update(name, SessionPatch(k=1), revision=before),
        )
        assert await got(c.sessions.get(name)) == emptied
        await got(other.sessions.close(name))
        assert (await got(follower.result())).closed
        await fails(errors.NotFound, lambda: c.sessions.get(name))


@check
async def attachment_ends_by_cancel(c, connect):
    name = f"conformance-{uuid.uuid4()}"
    follower = c.sessions.attach(name)
    await first(follower)
    follower.cancel()
    await fails(errors.Cancelled, follower.result)
    await got(c.sessions.close(name))


@check
async def job_outlives_its_client(c, connect):
    ask = {"task": "single_double_quote", "n": 4, "every": "layer", "kind": "zero"}
    async with connect() as other:
        job = await got(other.ablate.detach(**ask, use_cache=False))
    stream = c.jobs.watch(job.name)
    result = await got(stream.result())
    assert len(result.losses) > 0
    assert (await got(c.jobs.get(job.name))).state == "done"


@check
async def errors_have_their_codes(c, connect):
    await fails(errors.NotFound, lambda: c.forward("no-such-model", text=LINE))
    task = await fails(errors.NotFound, lambda: c.tasks.show("single_double_qoute"))
    assert "single_double_quote" in task.nearest
    site = await fails(errors.NotFound, lambda: c.hook(text=LINE, sites="0.resid_mdi"))
    assert site.nearest
    await fails(errors.BadTokens, lambda: c.forward(tokens=[[0, 1_000_000]]))
    await fails(errors.BadTokens, lambda: c.forward(tokens=[[1] * 5000]))
    far = iv.zero("0.attn.q", channels=[10_000_000])
    await fails(errors.BadIntervention, lambda: c.forward(text=LINE, interventions=far))
    await fails(errors.NotFound, lambda: c.jobs.get("nobody's"))


@check
async def many_requests_are_in_flight_at_once(c, connect):
    streams = [
        c.forward.start(text=f"x = {i}\n", logits="last", use_cache=False) for i in range(32)
    ]
    answers = [await got(stream.result()) for stream in streams]
    again = await got(c.forward(text="x = 17\n", logits="last", use_cache=False))
    np.testing.assert_allclose(answers[17].logits, again.logits, rtol=1e-4, atol=1e-4)

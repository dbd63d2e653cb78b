"""The link between two daemons: what becomes of questions, the session and what is said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from textual.message_pump import MessagePump

from circuit_client import upkeep
from circuit_client.call import Call
from circuit_client.verbs.jobs import list_jobs
from circuit_protocol.errors import Cancelled, CircuitError, ConnectError, Forbidden, ShuttingDown
from circuit_protocol.replies import SessionEvent, Welcome
from circuit_protocol.requests import AttachSession, Status
from circuit_protocol.session import SessionState
from circuit_tui.link import Link, LinkChanged, LinkState
from scripted_daemon import welcome

LOST = ConnectError("the line was lost")


class Stream:
    """Events that the test puts there, then an end."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Any]:
        while (event := await self.events.get()) is not None:
            yield event
        await self.end

    async def result(self) -> Any:
        return await self.end

    def cancel(self) -> None: ...

    def answer(self, answer: Any = None) -> None:
        self.end.set_result(answer)
        self.events.put_nowait(None)

    def fail(self, error: CircuitError) -> None:
        self.end.set_exception(error)
        self.events.put_nowait(None)


class Source:
    """A line whose questions the test answers, by the kind of request."""

    endpoint = "ipc://somewhere"

    def __init__(self, instance: str) -> None:
        self.welcome: Welcome = welcome(instance)
        self.is_open = True
        self.is_closed = asyncio.Event()
        self.asked: asyncio.Queue[Stream] = asyncio.Queue()
        self.attached: asyncio.Queue[Stream] = asyncio.Queue()

    def submit(self, call: Call[Any, Any]) -> Stream:
        stream = Stream()
        if isinstance(call.request, AttachSession):
            event = SessionEvent(id="x", state=SessionState(name="tui"), attached=1, final=False)
            stream.events.put_nowait(event)
            self.attached.put_nowait(stream)
        elif not isinstance(call.request, Status):
            self.asked.put_nowait(stream)
        return stream

    async def aclose(self) -> None:
        self.is_open = False
        self.is_closed.set()


class App:
    """Who asks, and who is told."""

    is_attached = True

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.states: asyncio.Queue[LinkState] = asyncio.Queue()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def post_message(self, message: Any) -> bool:
        if isinstance(message, LinkChanged):
            self.states.put_nowait(message.state)
            if message.state.phase not in self.phases[-1:]:
                self.phases.append(message.state.phase)
        return True

    def call_later(self, callback: Any, *args: Any) -> bool:
        callback(*args)
        return True


@asynccontextmanager
async def linked(*attempts: Source | Exception) -> AsyncIterator[tuple[Link, App]]:
    """A link whose attempts to connect go as given."""
    coming = iter(attempts)

    async def connect() -> Any:
        one = next(coming)
        if isinstance(one, Exception):
            raise one
        return one

    app = App()
    link = Link(cast(MessagePump, app), connect, "tui")
    link.open()
    async with asyncio.timeout(30):
        yield link, app
    await link.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(upkeep, "LONGEST_PAUSE_S", 0.0)


async def test_a_lost_daemon_is_not_said_to_be_absent_while_it_is_looked_for() -> None:
    first, second = Source("first"), Source("second")
    absent = ConnectError("no daemon runs here")
    ending = ShuttingDown("the daemon is about to end")
    async with linked(absent, first, ending, absent, second) as (link, app):
        (await first.attached.get()).fail(ending)
        await second.attached.get()
        assert first.is_closed.is_set()
        assert app.phases == ["absent", "open", "lost", "open"]
        assert link.state.welcome is second.welcome


async def test_a_daemon_that_will_not_have_us_any_longer_is_said_to_refuse() -> None:
    first, second = Source("first"), Source("second")
    async with linked(first, Forbidden("this key is not allowed"), second) as (_, app):
        (await first.attached.get()).fail(LOST)
        await second.attached.get()
        assert app.phases == ["open", "lost", "refused", "open"]


@pytest.mark.parametrize("fate", [LOST, Cancelled("cancelled before it was sent")])
async def test_a_question_that_went_down_with_its_line_is_put_to_the_next_daemon(
    fate: CircuitError,
) -> None:
    first, second = Source("first"), Source("second")
    async with linked(first, second) as (link, app):
        following = await first.attached.get()
        link.ask(app, "jobs", list_jobs(), app.answers.put_nowait)
        question = await first.asked.get()
        following.fail(LOST)
        await first.is_closed.wait()
        question.fail(fate)
        (await second.asked.get()).answer("jobs")
        assert await app.answers.get() == "jobs"


async def test_what_the_daemon_itself_cancelled_is_not_asked_again() -> None:
    first = Source("first")
    async with linked(first) as (link, app):
        await first.attached.get()
        link.ask(app, "jobs", list_jobs(), app.answers.put_nowait, what="asking")
        question = await first.asked.get()
        app.states = asyncio.Queue()
        question.fail(Cancelled("the job was cancelled"))
        while (await app.states.get()).waits:
            pass
        assert first.asked.empty()
        assert app.answers.empty()


async def test_a_session_that_somebody_closed_is_joined_anew() -> None:
    first = Source("first")
    async with linked(first) as (link, app):
        (await first.attached.get()).answer()
        await first.attached.get()
        assert app.phases == ["open"]
        assert link.state.attached == 1

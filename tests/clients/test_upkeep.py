"""A connection that is kept up: what is told, and how soon it is tried again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from circuit_client.upkeep import FIRST_PAUSE_S, LONGEST_PAUSE_S, Upkeep
from circuit_protocol.errors import ConnectError, Forbidden, ShuttingDown

ABSENT = ConnectError("no daemon runs")
LOST = ConnectError("the line was lost")


class Daemon:
    """Is there or not, as the test says attempt by attempt; tells what came of it in order."""

    def __init__(self, *attempts: Exception | None) -> None:
        """Each attempt fails with its error; None: it gives a connection."""
        self._attempts: Iterator[Exception | None] = iter(attempts)
        self.told: list[Any] = []
        self.uses: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self.upkeep = _Unrested(
            self.told, self._connect, self._use, lost=self._lost, missed=self._missed
        )

    async def aclose(self) -> None:
        """The connection, too: nothing but its end is of interest."""
        await asyncio.sleep(0)
        self.told.append("closed")

    async def _connect(self) -> "Daemon":
        error = next(self._attempts, None)
        if error is not None:
            raise error
        return self

    async def _use(self, connection: "Daemon") -> None:
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.uses.put_nowait(end)
        await end

    def _lost(self, error: Exception) -> None:
        self.told.append(("lost", error))

    def _missed(self, error: Exception) -> None:
        self.told.append(("missed", error))

    @property
    def pauses(self) -> list[float]:
        return [one for one in self.told if isinstance(one, float)]


class _Unrested(Upkeep[Daemon]):
    """Says how long it would rest, and goes on."""

    def __init__(self, told: list[Any], *given: Callable[..., Any], **named: Any) -> None:
        super().__init__(*given, **named)
        self._told = told

    async def rest(self, at_most_s: float | None = None) -> None:
        self._told.append(0.0 if self.is_due else at_most_s)
        await super().rest(0)


@asynccontextmanager
async def kept(d: Daemon) -> AsyncIterator[None]:
    running = asyncio.create_task(d.upkeep.run())
    try:
        async with asyncio.timeout(30):
            yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_daemon_that_is_absent_is_looked_for_less_and_less_often() -> None:
    d = Daemon(*[ABSENT] * 6)
    async with kept(d):
        await d.uses.get()
    assert d.told[:-1] == [
        one for pause in (0.2, 0.4, 0.8, 1.6, 2.0, 2.0) for one in (("missed", ABSENT), pause)
    ]
    assert d.told[-1] == "closed", "it was in use when the program ended"


@pytest.mark.parametrize("why", [LOST, ShuttingDown("the daemon is about to end")])
async def test_a_lost_line_is_told_before_hanging_up_and_soon_made_anew(why: Exception) -> None:
    d = Daemon(ABSENT, ABSENT, None, None)
    async with kept(d):
        end = await d.uses.get()
        d.told.clear()
        end.set_exception(why)
        await d.uses.get()
        assert d.told == [("lost", why), "closed", FIRST_PAUSE_S]


async def test_a_daemon_that_will_not_be_used_is_not_asked_without_end() -> None:
    refusal = Forbidden("no more sessions")
    d = Daemon()
    async with kept(d):
        for _ in range(7):
            (await d.uses.get()).set_exception(refusal)
        await d.uses.get()
    assert ("lost", refusal) not in d.told
    assert d.told.count(("missed", refusal)) == d.told.count("closed") - 1 == 7
    assert d.pauses[-1] == LONGEST_PAUSE_S


async def test_it_connects_anew_at_once_where_that_is_asked_for() -> None:
    d = Daemon(None, None)
    async with kept(d):
        end = await d.uses.get()
        d.upkeep.again()
        assert d.upkeep.is_due
        end.set_result(None)
        await d.uses.get()
        assert not d.upkeep.is_due
        assert d.told == ["closed", 0.0]


async def test_a_defect_of_whoever_uses_it_does_not_end_it() -> None:
    d = Daemon(RuntimeError("while connecting"), None, None)
    async with kept(d):
        (await d.uses.get()).set_exception(RuntimeError("while used"))
        await d.uses.get()
    assert [one[0] for one in d.told if isinstance(one, tuple)] == ["missed", "lost"]


async def test_a_rest_ends_when_the_daemon_is_wanted_again() -> None:
    upkeep = Daemon().upkeep
    resting = asyncio.create_task(Upkeep.rest(upkeep))
    await asyncio.sleep(0)
    upkeep.again()
    await resting
    assert not upkeep.is_due

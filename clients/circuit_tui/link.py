"""One asynchronous connection to the daemon, kept for the whole run of the terminal UI.

It connects after the first paint, finds its way back after the daemon went away, and carries what
the screens ask. A question is asked in a *slot*: the newest one in a slot wins, the older is
cancelled in the daemon. Answers arrive as calls in the asker's own message queue, so no widget ever
waits. What the link itself has to tell (it is open, it is lost, somebody moved the shared session,
something is being waited for) it posts to the app as messages.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar

from textual.message import Message
from textual.message_pump import MessagePump

from circuit_tui.source import Ask, Source, Stream, ask_plainly

if TYPE_CHECKING:
    from circuit_client.call import Call
    from circuit_protocol.errors import CircuitError
    from circuit_protocol.replies import StatusReport, Welcome
    from circuit_protocol.session import SessionPatch, SessionState

E = TypeVar("E")
R = TypeVar("R")

#: How often the daemon is asked how it does, in seconds; nothing is painted unless that changed.
_STATUS_EVERY_S: Final = 2.0

Phase = Literal["connecting", "open", "lost", "absent", "refused", "starting"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that is being waited for."""

    what: str
    since_s: float


@dataclass(frozen=True, slots=True)
class LinkState:
    """How the link does."""

    phase: Phase = "connecting"
    endpoint: str = ""
    welcome: "Welcome | None" = None
    #: Why there is no line, when there is none.
    error: "CircuitError | None" = None
    status: "StatusReport | None" = None
    #: Of the last answered question, in seconds.
    latency_s: float | None = None
    waits: tuple[Wait, ...] = ()
    #: Clients attached to the shared session, this one included.
    attached: int = 0


@dataclass(frozen=True, slots=True)
class _Asked(Generic[E, R]):
    """A question on its way: to which daemon, and since when."""

    source: Source
    instance: str
    at_s: float
    stream: Stream[E, R]

    @property
    def is_of_the_daemon_there(self) -> bool:
        """Whether the line is up, to the daemon that was asked."""
        return self.source.is_open and self.source.welcome.instance == self.instance


class LinkChanged(Message):
    """The link is in another state."""

    def __init__(self, state: LinkState) -> None:
        super().__init__()
        self.state = state


class SessionMoved(Message):
    """Somebody else changed the shared session, or it was just joined."""

    def __init__(self, state: "SessionState") -> None:
        super().__init__()
        self.state = state


class Asker(Protocol):
    """Whoever asks: a widget, a screen or the app."""

    @property
    def is_attached(self) -> bool:
        """Whether it is still there."""
        ...

    def call_later(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Put a call into its message queue."""
        ...


class Link:
    """The connection, its questions in flight, and its place in the shared session."""

    def __init__(
        self,
        app: MessagePump,
        connect: Callable[[], Coroutine[Any, Any, Source]],
        session: str,
        everything: "Callable[[], SessionPatch | None]" = lambda: None,
    ) -> None:
        """`everything` says what a session that begins has to be told of what is looked at."""
        self._app = app
        self._everything = everything
        self._connect = connect
        #: How questions are put, those of the session apart.
        self.asking: Ask = ask_plainly
        self._session = session
        self.state = LinkState()
        self._source: Source | None = None
        self._is_open = asyncio.Event()
        #: Set while this client is attached to the session: until then nothing is changed in it.
        self._has_joined = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        #: The question in flight of each slot, by its asker.
        self._slots: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._waits: dict[object, Wait] = {}
        #: What of the session is still to be sent; None: nothing.
        self._patch: SessionPatch | None = None
        self._is_sending = False
        #: The newest state of the session that the app was not told of.
        self._heard: SessionState | None = None

    # ------------------------------------------------------------------------------- the line

    def open(self) -> None:
        """Begin to connect, and go on trying."""
        from circuit_client.upkeep import Upkeep

        upkeep = Upkeep(self._connect, self._use, lost=self._has_lost, missed=self._has_missed)
        self._spawn(upkeep.run())

    def starting(self) -> None:
        """A daemon is being started; the next attempts will find it."""
        self._tell(phase="starting")

    async def close(self) -> None:
        """Leave: cancel what is in flight and hang up. Jobs of the daemon go on."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    async def _use(self, source: Source) -> None:
        """Take questions, and follow the session, until the line is lost."""
        self._source = source
        self._is_open.set()
        self._tell(phase="open", endpoint=source.endpoint, welcome=source.welcome, error=None)
        asking = self._spawn(self._ask_status(source))
        try:
            while True:
                await self._follow_session(source)
        finally:
            asking.cancel()
            self._source = None
            self._is_open.clear()
            self._has_joined.clear()
            self._tell(status=None, attached=0)

    def _has_lost(self, error: Exception) -> None:
        self._tell(phase="lost")

    def _has_missed(self, error: Exception) -> None:
        from circuit_protocol.errors import CircuitError, ConnectError, Unavailable

        is_away = isinstance(error, ConnectError | Unavailable)
        if is_away and self.state.phase in ("starting", "lost"):
            return  # which says more: one is expected
        known = error if isinstance(error, CircuitError) else CircuitError(str(error))
        is_absent = isinstance(error, ConnectError)
        self._tell(phase="absent" if is_absent else "refused", error=known)

    async def _ask_status(self, source: Source) -> None:
        """Ask how the daemon does, now and then."""
        from circuit_client.verbs.daemon import status
        from circuit_protocol.errors import CircuitError

        while True:
            asked_s = time.monotonic()
            # A line that is lost is noticed by what follows the session.
            with suppress(CircuitError):
                report = await self.asking(source, status()).result()
                latency_s = self.state.latency_s or time.monotonic() - asked_s
                self._tell(status=report, latency_s=latency_s)
            await asyncio.sleep(_STATUS_EVERY_S)

    def _tell(self, **changes: Any) -> None:
        state = replace(self.state, **changes)
        if state != self.state:
            self.state = state
            self._app.post_message(LinkChanged(state))

    def _spawn(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -------------------------------------------------------------------------------- questions

    def ask(
        self,
        asker: Asker,
        slot: str,
        call: "Call[E, R]",
        then: Callable[[R], Any],
        *,
        what: str | None = None,
        during: Callable[[E], Any] | None = None,
        otherwise: Callable[["CircuitError"], Any] | None = None,
    ) -> None:
        """Ask `call`, and call `then` with the answer in the asker's own time.

        An older question of the same asker in the same slot is cancelled, in the daemon as well.
        `what` is shown while it is waited for; `during` takes its events; `otherwise` takes the
        error, which else the app shows.
        """
        place = (id(asker), slot)
        self.drop(asker, slot)
        # Sent at once: whoever asks has a picture to draw, which the daemon need not wait for.
        asked = self._submit(call) if self._is_open.is_set() else None
        task = self._spawn(self._answer(asker, place, call, asked, then, what, during, otherwise))
        self._slots[place] = task

    def _submit(self, call: "Call[E, R]") -> "_Asked[E, R]":
        source = self._source
        assert source is not None  # open
        return _Asked(source, source.welcome.instance, time.monotonic(), self.asking(source, call))

    def drop(self, asker: Asker, slot: str) -> None:
        """Cancel the question in a slot, if one is in flight."""
        task = self._slots.pop((id(asker), slot), None)
        if task is not None:
            task.cancel()

    def drop_all(self) -> bool:
        """Cancel everything that is shown as waited for; whether there was anything."""
        waiting = [task for place, task in self._slots.items() if place in self._waits]
        for task in waiting:
            task.cancel()
        return bool(waiting)

    async def _answer(
        self,
        asker: Asker,
        place: tuple[int, str],
        call: "Call[E, R]",
        asked: "_Asked[E, R] | None",
        then: Callable[[R], Any],
        what: str | None,
        during: Callable[[E], Any] | None,
        otherwise: Callable[["CircuitError"], Any] | None,
    ) -> None:
        from circuit_protocol.errors import (
            Cancelled,
            CircuitError,
            ConnectError,
            UnsupportedVersion,
        )

        token = asyncio.current_task()
        if what is not None:
            self._waits[place] = Wait(what, time.monotonic())
            self._tell(waits=tuple(self._waits.values()))
        try:
            while True:
                if asked is None:
                    await self._is_open.wait()
                    asked = self._submit(call)
                question, asked = asked, None
                stream = question.stream
                try:
                    if during is not None:
                        async for event in stream:
                            self._deliver(asker, during, event)
                    answer = await stream.result()
                except ConnectError as e:
                    if call.resend and not question.is_of_the_daemon_there:
                        continue  # asked again when the daemon is back, or of its successor
                    self._deliver(asker, otherwise or self.show_problem, e)
                    return
                except Cancelled:
                    if question.is_of_the_daemon_there:
                        return
                    continue  # it was held back for a line, and let go with it
                except UnsupportedVersion:
                    # The link says so, and asks this of the next daemon that will have us.
                    if question.source is self._source:
                        self._is_open.clear()
                    continue
                finally:
                    stream.cancel()
                if what is None or not place[1].startswith("job"):
                    self._tell(latency_s=time.monotonic() - question.at_s)
                self._deliver(asker, then, answer)
                return
        except CircuitError as e:
            from circuit_tui.saying import explained

            self._deliver(asker, otherwise or self.show_problem, explained(e, call))
        finally:
            if self._slots.get(place) is token:
                del self._slots[place]
            if what is not None and self._slots.get(place) is None:
                self._waits.pop(place, None)
                self._tell(waits=tuple(self._waits.values()))

    def _deliver(self, asker: Asker, to: Callable[[Any], Any], value: Any) -> None:
        if asker.is_attached:
            asker.call_later(to, value)

    def show_problem(self, error: "CircuitError") -> None:
        """Have the app say it."""
        self._app.post_message(Problem(error))

    # -------------------------------------------------------------------------------- the session

    def share(self, patch: "SessionPatch") -> None:
        """Change the shared session; what is not sent yet is merged with what comes."""
        self._patch = patch if self._patch is None else _merged(self._patch, patch)
        if not self._is_sending:
            self._is_sending = True
            self._spawn(self._send_patches())

    async def _send_patches(self) -> None:
        from circuit_client.verbs.sessions import update
        from circuit_protocol.errors import CircuitError

        try:
            while self._patch is not None:
                await self._has_joined.wait()
                source, patch = self._source, self._patch
                if source is None or patch is None:
                    return
                self._patch = None
                try:
                    state = await source.submit(update(self._session, patch)).result()
                except CircuitError:
                    return  # joined again when the daemon is back, and then told what we look at
                self._hear(state)
        finally:
            self._is_sending = False
            self._pass_on()

    async def _follow_session(self, source: Source) -> None:
        """Follow the session until it is closed. Raises ConnectError when the line is lost."""
        from circuit_client.verbs.sessions import attach

        self._heard = None
        stream = source.submit(attach(self._session))
        try:
            async for event in stream:
                self._tell(attached=event.attached, welcome=source.welcome)
                if event.closed:
                    continue
                if event.state.revision > 0:
                    self._hear(event.state)
                elif (patch := self._everything()) is not None:
                    self.share(patch)  # a fresh session looks at what this one does
                self._has_joined.set()
                self._pass_on()
        finally:
            stream.cancel()

    @property
    def is_sharing(self) -> bool:
        """Whether changes of our own are on their way, after which the session says more."""
        return self._is_sending or self._patch is not None

    def _hear(self, state: "SessionState") -> None:
        if self._heard is None or state.revision >= self._heard.revision:
            self._heard = state

    def _pass_on(self) -> None:
        if self._heard is not None and not self.is_sharing:
            self._app.post_message(SessionMoved(self._heard))
            self._heard = None


class Problem(Message):
    """Something was refused or failed; the app says it as a sentence with a next step."""

    def __init__(self, error: "CircuitError") -> None:
        super().__init__()
        self.error = error


def _merged(older: "SessionPatch", newer: "SessionPatch") -> "SessionPatch":
    from msgspec import UNSET, structs

    changed = {field: value for field, value in structs.asdict(newer).items() if value is not UNSET}
    return structs.replace(older, **changed)

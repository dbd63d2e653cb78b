"""The server's one connection to the daemon, kept up, and the session that is followed over it.

Following a session is also how a lost line is noticed: that request never ends by itself. When it
does, the link looks for the daemon again, and says so only when something has changed. It starts no
daemon unless it was told to.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from circuit_client.aio import AsyncConnection, AsyncStream
from circuit_client.connecting import connect_async
from circuit_client.reach import start_daemon
from circuit_client.upkeep import Upkeep
from circuit_lsp.errors import as_circuit_error
from circuit_lsp.messages.daemon import LinkState
from circuit_protocol.errors import (
    Cancelled,
    CircuitError,
    ConnectError,
    KeyRefused,
    RequestError,
    UnsupportedVersion,
)
from circuit_protocol.replies import SessionEvent
from circuit_protocol.session import SessionState

_CONNECT_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon is, and with which keys; all None: the one that runs here."""

    endpoint: str | None = None
    key: str | None = None
    server_key: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How things are between us and the daemon; `sentence` for people, `hint` what to do."""

    state: LinkState
    sentence: str
    hint: str | None = None


class Link:
    """A connection that comes back. Everything happens in the event loop that `start` is called in.

    `on_standing` is called when the standing changes, `on_session` with each state of the session.
    """

    def __init__(
        self, on_standing: Callable[[Standing], None], on_session: Callable[[SessionEvent], None]
    ) -> None:
        self._on_standing = on_standing
        self._on_session = on_session
        self.place = Place()
        #: Whether a daemon is started where none runs: at the first attempt only, so that one which
        #: was stopped on purpose stays stopped.
        self.start_wanted = False
        self.session_name = "editor"
        self.session: SessionState | None = None
        self.n_attached = 0
        self.standing = Standing("connecting", "Looking for the daemon.")
        self._connection: AsyncConnection | None = None
        self._stream: AsyncStream | None = None
        self._is_off = False
        self._when_lost: list[Callable[[], None]] = []
        self._upkeep = Upkeep(
            self._connect, self._use, lost=self._has_lost, missed=self._has_missed
        )
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------- for users

    @property
    def is_up(self) -> bool:
        """Whether the daemon can be asked now."""
        return self._connection is not None and self.standing.state == "connected"

    @property
    def connection(self) -> AsyncConnection:
        """The connection. Raises ConnectError with the reason where there is none."""
        if self._connection is None or not self.is_up:
            raise ConnectError(self.standing.sentence, hint=self.standing.hint)
        return self._connection

    def start(self) -> None:
        """Begin to look for the daemon."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._upkeep.run())

    async def close(self) -> None:
        """Hang up for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def connect(self, place: Place, *, off: bool = False) -> None:
        """Use the daemon at `place` from now on (`off`: none); returns once that was tried."""
        self.place, self._is_off = place, off
        await self._retry()

    async def start_daemon(self) -> None:
        """Run `circuitd start` here, and connect. Raises what stands in the way."""
        await asyncio.to_thread(start_daemon)
        self._is_off = False
        await self._retry()

    @contextlib.contextmanager
    def noticing(self, lost: Callable[[], None]) -> Iterator[None]:
        """Within the block, `lost` is called when the line to the daemon goes."""
        self._when_lost.append(lost)
        try:
            yield
        finally:
            self._when_lost.remove(lost)

    async def join(self, session: str) -> None:
        """Leave this session and follow another; returns once its state is known."""
        self.session_name = session
        self.session = None
        if self._stream is not None and self.is_up:
            self._settled.clear()
            self._stream.cancel()
            await self._settled.wait()

    async def _retry(self) -> None:
        self._settled.clear()
        self._upkeep.again()
        if self._stream is not None:
            self._stream.cancel()
        await self._settled.wait()

    # -------------------------------------------------------------------------------- the line

    async def _connect(self) -> AsyncConnection:
        while self._is_off:
            self._stand(Standing("off", "Not connected, as you asked.", "Connect again"))
            await self._upkeep.rest()
        if self.standing.state in ("connected", "off"):
            self._stand(Standing("connecting", "Looking for the daemon."))
        start, self.start_wanted = self.start_wanted, False
        return await connect_async(
            self.place.endpoint,
            key=self.place.key,
            server_key=self.place.server_key,
            timeout_s=_CONNECT_TIMEOUT_S,
            start=start,
            client="circuit lsp",
        )

    def _has_missed(self, error: Exception) -> None:
        self._stand(standing_of(as_circuit_error(error)))

    def _has_lost(self, error: Exception) -> None:
        if not self._is_off:
            self._stand(Standing("connecting", "The line to the daemon was lost.", str(error)))

    async def _use(self, connection: AsyncConnection) -> None:
        """Follow the session, and after a `join` the next one, until the line is lost."""
        self._connection = connection
        try:
            while not self._upkeep.is_due:
                await self._follow(connection, self.session_name)
        finally:
            self._connection, self._stream, self.session = None, None, None
            for lost in self._when_lost:
                lost()

    async def _follow(self, connection: AsyncConnection, name: str) -> None:
        self._stream = connection.sessions.attach(name)
        with contextlib.suppress(Cancelled):
            async for event in self._stream:
                if name != self.session_name:
                    break
                self._take(event)

    def _take(self, event: SessionEvent) -> None:
        self.session, self.n_attached = event.state, event.attached
        if self.standing.state != "connected":
            self._stand(Standing("connected", "Connected to the daemon."))
        self._settled.set()
        self._on_session(event)

    def _stand(self, standing: Standing) -> None:
        is_news = standing != self.standing
        self.standing = standing
        if standing.state != "connecting":
            self._settled.set()
        if is_news:
            self._on_standing(standing)


def standing_of(error: CircuitError) -> Standing:
    """What an error at connecting means."""
    state: LinkState = "absent"
    if isinstance(error, UnsupportedVersion):
        state = "incompatible"
    elif isinstance(error, KeyRefused | RequestError):
        # A key that is not taken, that cannot be read or is none; an endpoint that is none.
        state = "refused"
    found = f": {error.found}" if error.found else ""
    # Where nobody was told of a place, the one that was looked at is of no interest.
    asked = f" ({error.asked})" if error.asked and (found or state == "refused") else ""
    sentence = error.message[:1].upper() + error.message[1:] + asked + found + "."
    return Standing(state, sentence, error.hint)

"""The shared state of looks at a model: revisioned, patched, and told to everyone attached.

A pure state machine. Every change makes the next revision, so a client that sends the revision it
saw never overwrites what another one did meanwhile: it gets `Conflict` and looks again.
"""

from dataclasses import dataclass, field

from msgspec import UNSET
from msgspec.structs import fields, replace

from circuit_protocol.errors import Conflict, NotFound, TooLarge
from circuit_protocol.session import SessionPatch, SessionState
from circuitd.server.scheduler import ClientId

#: An attachment: who, and the id of the attach request that the events answer.
Follower = tuple[ClientId, str]
_PATCHED = tuple(f.name for f in fields(SessionPatch))


@dataclass(slots=True)
class _Session:
    state: SessionState
    followers: dict[Follower, None] = field(default_factory=dict)


class Sessions:
    """All sessions by name; they live until they are closed, attached or not."""

    def __init__(self, limit: int = 1024) -> None:
        self.limit = limit
        self.by_name: dict[str, _Session] = {}
        #: Which session each attachment follows: the inverse of `followers`.
        self.attached: dict[Follower, str] = {}

    def states(self) -> tuple[SessionState, ...]:
        """All sessions' states, by name."""
        return tuple(self.by_name[name].state for name in sorted(self.by_name))

    def get(self, name: str) -> SessionState:
        """A session's state. Raises NotFound."""
        return self._find(name).state

    def followers(self, name: str) -> tuple[Follower, ...]:
        """Who is attached, in the order they came."""
        return tuple(self._find(name).followers)

    def attach(self, name: str, follower: Follower, *, create: bool) -> SessionState:
        """Follow a session, made on the spot if `create`. Raises NotFound, TooLarge."""
        if name not in self.by_name and create:
            if len(self.by_name) >= self.limit:
                raise TooLarge("too many sessions", found=str(self.limit), hint="Close some")
            self.by_name[name] = _Session(SessionState(name=name))
        session = self._find(name)
        assert follower not in self.attached, "request ids are unique among unfinished requests"
        session.followers[follower] = None
        self.attached[follower] = name
        return session.state

    def update(self, name: str, patch: SessionPatch, revision: int | None) -> SessionState:
        """Apply a patch and make the next revision; a patch that changes nothing makes none.

        Raises Conflict when `revision` is given and is not the current one.
        """
        session = self._find(name)
        state = session.state
        if revision is not None and revision != state.revision:
            raise Conflict(
                "the session has changed meanwhile",
                asked=f"revision {revision}",
                found=f"revision {state.revision}",
                hint="Get its state and decide again",
            )
        changes = {f: value for f in _PATCHED if (value := getattr(patch, f)) is not UNSET}
        if any(getattr(state, name) != value for name, value in changes.items()):
            session.state = replace(state, revision=state.revision + 1, **changes)
        return session.state

    def close(self, name: str) -> tuple[SessionState, tuple[Follower, ...]]:
        """End a session: its last state, and who has to be told. Raises NotFound."""
        session = self._find(name)
        del self.by_name[name]
        for follower in session.followers:
            del self.attached[follower]
        return session.state, tuple(session.followers)

    def detach(self, follower: Follower) -> SessionState | None:
        """End one attachment; the state it followed, or None if there was none."""
        name = self.attached.pop(follower, None)
        if name is None:
            return None
        session = self.by_name[name]
        del session.followers[follower]
        return session.state

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        assert len(self.by_name) <= self.limit
        pairs = {(f, name) for name, s in self.by_name.items() for f in s.followers}
        assert pairs == set(self.attached.items())
        assert all(name == s.state.name for name, s in self.by_name.items())

    def _find(self, name: str) -> _Session:
        session = self.by_name.get(name)
        if session is None:
            raise NotFound.unknown("session", name, self.by_name)
        return session

"""`sessions.*`: the shared state of a look at a model."""

from circuit_client.call import UNSENT_ID, Call, Received, progress_only, read_done
from circuit_protocol.replies import Progress, SessionEvent, SessionList
from circuit_protocol.requests import (
    AttachSession,
    CloseSession,
    GetSession,
    ListSessions,
    UpdateSession,
)
from circuit_protocol.session import SessionPatch, SessionState


def _state(received: Received) -> SessionState:
    return received.expect(SessionEvent).state


def list_sessions() -> Call[Progress, tuple[SessionState, ...]]:
    """The sessions there are."""

    def read(received: Received) -> tuple[SessionState, ...]:
        return received.expect(SessionList).sessions

    return Call(ListSessions(id=UNSENT_ID), read, progress_only)


def get(session: str) -> Call[Progress, SessionState]:
    """The state of one session."""
    return Call(GetSession(id=UNSENT_ID, session=session), _state, progress_only)


def attach(session: str, *, create: bool = True) -> Call[SessionEvent, SessionEvent | None]:
    """Follow a session: its state now, then every change, until it is closed."""

    def read_event(received: Received) -> SessionEvent | None:
        return received.reply if isinstance(received.reply, SessionEvent) else None

    request = AttachSession(id=UNSENT_ID, session=session, create=create)
    return Call(request, read_event, read_event)


def update(
    session: str, patch: SessionPatch, *, revision: int | None = None
) -> Call[Progress, SessionState]:
    """Change fields of a session; with `revision`, only if it is still the current one."""
    request = UpdateSession(id=UNSENT_ID, session=session, patch=patch, revision=revision)
    return Call(request, _state, progress_only, resend=False)


def close(session: str) -> Call[Progress, bool]:
    """End a session; attached clients are told."""
    return Call(CloseSession(id=UNSENT_ID, session=session), read_done, progress_only)

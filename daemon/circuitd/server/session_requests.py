"""Requests about sessions: who follows one hears of every change, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from circuit_protocol import requests as r
from circuit_protocol.errors import CircuitError
from circuit_protocol.replies import Done, SessionEvent, SessionList
from circuit_protocol.session import SessionState
from circuitd.server.replies import OpenRequest

if TYPE_CHECKING:
    from circuitd.server.front import Front, Handler


def list_sessions(front: Front, entry: OpenRequest, request: r.ListSessions) -> None:
    """All sessions."""
    front.reply(entry, SessionList(id=request.id, sessions=front.sessions.states()))


def get(front: Front, entry: OpenRequest, request: r.GetSession) -> None:
    """One session's state."""
    front.reply(entry, _event(front, entry, front.sessions.get(request.session)))


def attach(front: Front, entry: OpenRequest, request: r.AttachSession) -> None:
    """Follow a session until the request is cancelled or the session closed."""
    follower = (entry.client, entry.request_id)
    state = front.sessions.attach(request.session, follower, create=request.create)

    def stop(error: CircuitError) -> None:
        front.sessions.detach(follower)
        front.fail(entry, error)

    entry.stop = stop
    front.reply(entry, _event(front, entry, state, final=False))


def update(front: Front, entry: OpenRequest, request: r.UpdateSession) -> None:
    """Change a session, and tell its followers if that made a new revision."""
    before = front.sessions.get(request.session)
    state = front.sessions.update(request.session, request.patch, request.revision)
    front.reply(entry, _event(front, entry, state))
    if state.revision != before.revision:
        for follower in front.sessions.followers(request.session):
            if (theirs := front.book.get(*follower)) is not None:
                front.reply(theirs, _event(front, theirs, state, final=False))


def close(front: Front, entry: OpenRequest, request: r.CloseSession) -> None:
    """End a session; its followers' requests end with it."""
    state, followers = front.sessions.close(request.session)
    for follower in followers:
        if (theirs := front.book.get(*follower)) is not None:
            front.reply(theirs, SessionEvent(id=theirs.request_id, state=state, closed=True))
    front.reply(entry, Done(id=request.id))


def _event(
    front: Front, entry: OpenRequest, state: SessionState, *, final: bool = True
) -> SessionEvent:
    attached = len(front.sessions.followers(state.name))
    return SessionEvent(id=entry.request_id, final=final, state=state, attached=attached)


HANDLERS: Final[Mapping[type[r.Request], Handler]] = {
    r.ListSessions: list_sessions,
    r.GetSession: get,
    r.AttachSession: attach,
    r.UpdateSession: update,
    r.CloseSession: close,
}

"""The shared state of one look at a model: what a TUI, an editor and a script see together.

State, patch, and the requests that list, follow and change sessions.
"""

import msgspec
from msgspec import UNSET, UnsetType

from circuit_protocol.interventions import Intervention
from circuit_protocol.messages import Name, Reply, Request


class SelectedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node: a channel of a site."""

    site: str
    channel: int


class SessionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session at one revision. Every change makes the next revision."""

    name: str
    revision: int = 0
    model: str | None = None
    task: str | None = None
    circuit: str | None = None
    k: int | None = None
    node: SelectedNode | None = None
    interventions: tuple[Intervention, ...] = ()
    text: str | None = None


class SessionPatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields to change; a field left out stays, `null` empties it."""

    model: str | UnsetType | None = UNSET
    task: str | UnsetType | None = UNSET
    circuit: str | UnsetType | None = UNSET
    k: int | UnsetType | None = UNSET
    node: SelectedNode | UnsetType | None = UNSET
    interventions: tuple[Intervention, ...] | UnsetType = UNSET
    text: str | UnsetType | None = UNSET


class ListSessions(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.list"):
    """The sessions there are."""


class SessionList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.listed"):
    """Answers sessions.list."""

    sessions: tuple[SessionState, ...]


class GetSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.get"):
    """The state of one session."""

    session: Name


class AttachSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.attach"):
    """Follow a session (made on the spot if `create`): its state now, then every change.

    Ends when this request is cancelled or the session is closed.
    """

    session: Name
    create: bool = True


class SessionEvent(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="session.event"):
    """A session's state: answers sessions.get and sessions.update, and follows each change to
    those attached. `closed` ends an attachment.
    """

    state: SessionState
    attached: int = 0
    closed: bool = False


class UpdateSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.update"):
    """Change fields of a session. With `revision`, only if it is still the current one."""

    session: Name
    patch: SessionPatch
    revision: int | None = None


class CloseSession(Request, frozen=True, kw_only=True, omit_defaults=True, tag="sessions.close"):
    """End a session; attached clients are told."""

    session: Name

"""Every error a circuitd client can meet, as types that survive the wire.

    CircuitError
    ├── RequestError            the caller's doing; the same request fails again
    │   ├── MalformedMessage    bytes that are no message of this protocol
    │   ├── UnsupportedVersion  a peer that speaks another major version
    │   ├── InvalidRequest      a well-formed message that asks for something senseless
    │   │   ├── BadShape        a tensor of another shape or dtype than needed
    │   │   ├── BadTokens       empty batch, id out of range, prompt longer than the context
    │   │   └── BadIntervention a site, channel, head, position or row that does not exist
    │   ├── NotFound            a model, site, task, session, job, handle or file nobody knows
    │   ├── TooLarge            over a limit announced in hello
    │   ├── Conflict            duplicate request id, stale session revision, model wanted again
    │   ├── Forbidden           not allowed for this client
    │   └── CheckpointError     a model on disk that is damaged, unsafe or incomplete
    ├── Unavailable             the daemon's state; the same request may succeed later
    │   ├── Busy                queues are full: retry after `retry_after_s`
    │   ├── OutOfMemory         the byte budget or the device is full; says what would have to go
    │   ├── WorkerDied          the process that ran the request was lost; it has been replaced
    │   ├── ShuttingDown        the daemon is about to end
    │   └── StorageFull         the disk has no room for what must be written
    ├── Stopped                 nobody's fault: the request was ended on purpose
    │   ├── Cancelled
    │   └── DeadlineExceeded
    ├── ConnectError            raised on the client's side only: no daemon, or a lost line
    │   └── KeyRefused          somebody listens there, but the keys do not fit
    └── InternalError           a defect in circuitd; the daemon's log has the traceback

An error says what was `asked`, what was `found` and what to do (`hint`). On the wire it is an
`ErrorInfo`; `to_info` and `from_info` are the only two places that convert.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, Final, Literal, Self

import msgspec

Blame = Literal["caller", "daemon", "nobody"]


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An error as it travels: `code` names the type, the rest is for a person."""

    code: str
    message: str
    blame: Blame = "caller"
    retry: bool = False
    retry_after_s: float | None = None
    asked: str | None = None
    found: str | None = None
    hint: str | None = None
    nearest: tuple[str, ...] = ()


class CircuitError(Exception):
    """The root: everything circuitd raises on purpose."""

    code: ClassVar[str] = "error"
    blame: ClassVar[Blame] = "daemon"
    #: Whether the same request may succeed when it is sent again.
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        asked: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        nearest: Iterable[str] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.asked = asked
        self.found = found
        self.hint = hint
        self.nearest = tuple(nearest)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        text = self.message
        if self.asked is not None:
            text += f"; asked: {self.asked}"
        if self.found is not None:
            text += f"; found: {self.found}"
        if self.nearest:
            text += f"; nearest: {', '.join(self.nearest)}"
        if self.hint is not None:
            text += f". {self.hint}"
        return text

    def to_info(self) -> ErrorInfo:
        """The error as it travels."""
        return ErrorInfo(
            code=self.code,
            message=self.message,
            blame=self.blame,
            retry=self.retry,
            retry_after_s=self.retry_after_s,
            asked=self.asked,
            found=self.found,
            hint=self.hint,
            nearest=self.nearest,
        )

    @classmethod
    def unknown(cls, kind: str, asked: str, known: Iterable[str], hint: str | None = None) -> Self:
        """An error for a name nobody knows, with the nearest names that exist."""
        names = list(known)
        nearest = get_close_matches(asked, names, n=5, cutoff=0.5)
        if hint is None and not nearest:
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            hint = f"Known: {shown}" if names else f"There is no {kind} yet"
        return cls(f"no {kind} has this name", asked=asked, nearest=nearest, hint=hint)


class RequestError(CircuitError):
    """The caller's doing; the same request fails again."""

    code = "request_error"
    blame = "caller"


class MalformedMessage(RequestError):
    """Bytes that are no message of this protocol."""

    code = "malformed_message"


class UnsupportedVersion(RequestError):
    """A peer that speaks another major version."""

    code = "unsupported_version"


class InvalidRequest(RequestError):
    """A well-formed message that asks for something senseless."""

    code = "invalid_request"


class BadShape(InvalidRequest):
    """A tensor of another shape or dtype than needed."""

    code = "bad_shape"


class BadTokens(InvalidRequest):
    """An empty batch, a token id out of range, a prompt longer than the context."""

    code = "bad_tokens"


class BadIntervention(InvalidRequest):
    """An intervention on a channel, head, position or row that does not exist."""

    code = "bad_intervention"


class NotFound(RequestError):
    """A model, site, task, session, job, handle or file nobody knows."""

    code = "not_found"


class TooLarge(RequestError):
    """Over a limit announced in hello."""

    code = "too_large"


class Conflict(RequestError):
    """A duplicate request id, a stale session revision, a model wanted elsewhere or again."""

    code = "conflict"


class Forbidden(RequestError):
    """Not allowed for this client."""

    code = "forbidden"


class CheckpointError(RequestError):
    """A model on disk that is damaged, unsafe or incomplete."""

    code = "checkpoint_error"


class Unavailable(CircuitError):
    """The daemon's state; the same request may succeed later."""

    code = "unavailable"
    blame = "daemon"
    retry = True


class Busy(Unavailable):
    """Queues are full: retry after `retry_after_s` seconds."""

    code = "busy"


class OutOfMemory(Unavailable):
    """The byte budget or the device is full."""

    code = "out_of_memory"


class WorkerDied(Unavailable):
    """The process that ran the request was lost; it has been replaced."""

    code = "worker_died"


class ShuttingDown(Unavailable):
    """The daemon is about to end."""

    code = "shutting_down"


class StorageFull(Unavailable):
    """The disk has no room for what must be written."""

    code = "storage_full"


class Stopped(CircuitError):
    """Nobody's fault: the request was ended on purpose."""

    code = "stopped"
    blame = "nobody"


class Cancelled(Stopped):
    """The client, or its leaving, cancelled the request."""

    code = "cancelled"


class DeadlineExceeded(Stopped):
    """The request's `deadline_s` passed before it was done."""

    code = "deadline_exceeded"


class ConnectError(CircuitError):
    """No daemon, or a lost line: raised on the client's side, never sent."""

    code = "connect_error"
    blame = "nobody"
    retry = True


class KeyRefused(ConnectError):
    """The keys of both sides do not fit: raised on the client's side, never sent."""

    code = "key_refused"
    blame = "caller"
    retry = False


class InternalError(CircuitError):
    """A defect in circuitd; the daemon's log has the traceback under the request's id."""

    code = "internal_error"
    blame = "daemon"


def _tree(root: type[CircuitError]) -> Iterable[type[CircuitError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


#: Wire code to type, for `from_info`.
ERRORS_BY_CODE: Final[dict[str, type[CircuitError]]] = {e.code: e for e in _tree(CircuitError)}


def from_info(info: ErrorInfo) -> CircuitError:
    """The error `info` describes, as the same type on this side; unknown codes give the root."""
    error_type = ERRORS_BY_CODE.get(info.code, CircuitError)
    return error_type(
        info.message,
        asked=info.asked,
        found=info.found,
        hint=info.hint,
        nearest=info.nearest,
        retry_after_s=info.retry_after_s,
    )

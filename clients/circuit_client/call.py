"""A request as a value: what to send, and how its replies become events and a result.

Every verb of the client is written once, as a function that returns a `Call`; the synchronous and
the asynchronous connection only carry it out. Nothing here touches a socket.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from circuit_client.values import Keeper, Value
from circuit_protocol.errors import InternalError
from circuit_protocol.interventions import Values
from circuit_protocol.replies import AnyReply, Progress, Reply
from circuit_protocol.requests import AnyRequest, Credit, Request
from circuit_protocol.tensors import Frame

E_co = TypeVar("E_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
ReplyT = TypeVar("ReplyT", bound=Reply)

#: Stands in a request where the connection puts its own number for it.
UNSENT_ID = "unsent"
#: Stands in a request for "the daemon's default model", known after hello.
DEFAULT_MODEL = ""


class Received(NamedTuple):
    """A reply as it arrived: the struct, the frames after the header, and who holds its handles."""

    reply: AnyReply
    frames: Sequence[Frame]
    keeper: Keeper

    def value(self, tensor: Values) -> Value:
        """The tensor `tensor` of this reply, here or still in the daemon."""
        return Value(tensor, self.frames, self.keeper)

    def expect(self, reply_type: type[ReplyT]) -> ReplyT:
        """The reply, known to be a `reply_type`; InternalError if the daemon answered otherwise."""
        if not isinstance(self.reply, reply_type):
            raise InternalError(
                "the daemon answered with a message of another type than the request calls for",
                asked=reply_type.__name__,
                found=type(self.reply).__name__,
            )
        return self.reply


@dataclass(frozen=True, slots=True)
class Call(Generic[E_co, R_co]):
    """One request, ready to send, and how to read what comes back.

    `resend` says that it may be sent again after a lost line without anyone noticing: it computes
    or reads something and changes nothing.
    """

    request: Request
    read_result: Callable[[Received], R_co]
    #: Reads a reply that is not final; None: it is of no interest to the caller.
    read_event: Callable[[Received], E_co | None]
    frames: tuple[Frame, ...] = ()
    resend: bool = True
    #: The daemon that holds the tensors this request names by handle; no other one can answer it.
    instance: str | None = None
    #: Called with each progress report, in the caller's thread.
    progress: Callable[[Progress], None] | None = None
    #: Takes bytes where they arrive, in whichever thread that is, and says how much more may come.
    absorb: Callable[[AnyReply, Sequence[Frame]], Credit | None] | None = None
    #: What the welcome must name for this call to be sent at all.
    capability: str | None = None
    #: Sent instead where that is not named, or when this call fails. `read_result` reads both.
    otherwise: "Call[Any, Any] | None" = None

    def numbered(self, request_id: str, default_model: str | None) -> AnyRequest:
        """The request with its id, and with the default model where none was named."""
        changes: dict[str, Any] = {"id": request_id}
        if getattr(self.request, "model", None) == DEFAULT_MODEL and default_model is not None:
            changes["model"] = default_model
        return cast(AnyRequest, msgspec.structs.replace(self.request, **changes))

    @property
    def needs_default_model(self) -> bool:
        """Whether the caller named no model for a request that runs on one."""
        return getattr(self.request, "model", None) == DEFAULT_MODEL


def progress_only(received: Received) -> Progress | None:
    """The event reader of requests whose only events are progress reports."""
    return received.reply if isinstance(received.reply, Progress) else None


def read_done(received: Received) -> bool:
    """The result reader of requests that answer `done`: whether anything changed."""
    from circuit_protocol.replies import Done

    return received.expect(Done).changed


def whole(reply_type: type[ReplyT]) -> Callable[[Received], ReplyT]:
    """A result reader that gives the reply struct itself."""

    def read(received: Received) -> ReplyT:
        return received.expect(reply_type)

    return read

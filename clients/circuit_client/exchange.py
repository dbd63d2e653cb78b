"""Which requests of one connection are unanswered, and what each event on the line means for them.

A plain state machine: the I/O thread (`line`) tells it what happened, takes what is to be sent from
`outgoing`, and does nothing else. It gives requests their numbers' meaning, holds them back until
the daemon has said welcome, repeats what may be repeated after a lost line, fails the rest, and
counts the leases on tensors the daemon holds.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from circuit_client.call import Call
from circuit_protocol.codec import UNKNOWN_ID, decode_reply, encode, peek_id
from circuit_protocol.errors import (
    CircuitError,
    ConnectError,
    InvalidRequest,
    MalformedMessage,
    NotFound,
    UnsupportedVersion,
    from_info,
)
from circuit_protocol.limits import check_frames
from circuit_protocol.replies import AnyReply, Failed, Welcome
from circuit_protocol.requests import Cancel, Hello, Release
from circuit_protocol.tensors import Frame
from circuit_protocol.version import PROTOCOL_VERSION, is_compatible

_HELLO_ID: Final = "hello"


class Sink(Protocol):
    """Where the replies to one request go; called in the I/O thread, so it must not block."""

    def deliver(self, reply: AnyReply, frames: Sequence[Frame]) -> None:
        """A reply that is no error. The one with `final` is the last call."""
        ...

    def fail(self, error: CircuitError) -> None:
        """The request ended in `error`; the last call."""
        ...


@dataclass(slots=True)
class _Unanswered:
    call: Call[Any, Any]
    sink: Sink
    #: When a request that could not be sent is given up, on the clock of `now_s`.
    give_up_at_s: float
    sent: bool = False
    #: Whether its caller has seen a part of the answer, so that it cannot begin again unnoticed.
    begun: bool = False
    resends: int = 0


class Exchange:
    """The state of one connection. Not thread-safe: it belongs to the I/O thread."""

    #: How often a request is repeated, so that one that brings the daemon down does so seldom.
    MAX_RESENDS: Final = 2

    def __init__(self, client: str, *, wait_s: float) -> None:
        self._client = client
        self._wait_s = wait_s
        #: Invariant: a request is in here from `submit` until its sink got its last call.
        self._unanswered: dict[str, _Unanswered] = {}
        self._leases: Counter[str] = Counter()
        self._to_release: list[str] = []
        self._releases = 0
        self.phase: Literal["away", "greeting", "open", "over"] = "away"
        #: What ended the exchange for good, once `phase` is "over".
        self.ended_by: CircuitError | None = None
        self.welcome: Welcome | None = None
        #: Messages to send, oldest first. Empty unless the line is up.
        self.outgoing: deque[Sequence[Frame]] = deque()

    @property
    def n_unanswered(self) -> int:
        """Requests that wait for their final reply."""
        return len(self._unanswered)

    # ------------------------------------------------------------------------ from the caller

    def submit(self, request_id: str, call: Call[Any, Any], sink: Sink, now_s: float) -> None:
        """Send `call` as request `request_id`, now or when the daemon has said welcome."""
        if self.ended_by is not None:
            sink.fail(self.ended_by)
            return
        entry = _Unanswered(call, sink, give_up_at_s=now_s + self._wait_s)
        self._unanswered[request_id] = entry
        if self.phase == "open":
            self._send(request_id, entry)

    def cancel(self, request_id: str) -> None:
        """End a request: at once if it was not sent yet, else by asking the daemon."""
        entry = self._unanswered.get(request_id)
        if entry is None:
            return
        if entry.sent:
            self._post(Cancel(id=f"cancel-{request_id}"[:64], target=request_id))
        else:
            from circuit_protocol.errors import Cancelled

            self._finish(request_id).fail(Cancelled("the request was cancelled before it was sent"))

    def abandon(self, request_id: str) -> None:
        """Nobody waits for a request any longer, nor has its sink to be told."""
        entry = self._unanswered.pop(request_id, None)
        if entry is not None and entry.sent and self.phase == "open":
            self._post(Cancel(id=f"cancel-{request_id}"[:64], target=request_id))

    def lease(self, handle: str, instance: str) -> None:
        """One more value of this process refers to `handle` of the daemon `instance`."""
        if self._is_current(instance):
            self._leases[handle] += 1

    def release(self, handle: str, instance: str) -> None:
        """One value fewer refers to `handle`; the daemon is told of the last one in `flush`."""
        if not self._is_current(instance):
            return  # it went with its daemon, and another one may use the same name
        if self._leases[handle] > 1:
            self._leases[handle] -= 1
        elif self._leases.pop(handle, 0):
            self._to_release.append(handle)

    def flush(self) -> None:
        """Let go of all handles released since, in one message."""
        if self._to_release and self.phase == "open":
            self._releases += 1
            handles, self._to_release = tuple(self._to_release), []
            self._post(Release(id=f"release-{self._releases}", handles=handles))

    def farewell(self) -> None:
        """Cancel what is unanswered, let go of what is held, and take no more requests."""
        for request_id in list(self._unanswered):
            self.cancel(request_id)
        self._to_release.extend(self._leases)
        self._leases.clear()
        self.flush()
        self.end(ConnectError("the connection was closed"))

    # -------------------------------------------------------------------------- from the line

    def on_connected(self) -> None:
        """The line is up: greet."""
        self.phase = "greeting"
        self.outgoing.clear()
        self._post(Hello(id=_HELLO_ID, versions=(PROTOCOL_VERSION,), client=self._client))

    def on_message(self, frames: Sequence[Frame]) -> None:
        """A reply arrived."""
        try:
            reply = decode_reply(frames[0])
        except MalformedMessage as e:
            request_id = peek_id(frames[0])
            if request_id in self._unanswered:
                self._finish(request_id).fail(e)
            elif request_id == _HELLO_ID:
                self.end(e)
            return
        if reply.id == _HELLO_ID or (reply.id == UNKNOWN_ID and self.phase == "greeting"):
            self._on_greeting(reply)
            return
        entry = self._unanswered.get(reply.id)
        if entry is None:
            return  # to a cancel, a release, or a request whose caller is gone
        if isinstance(reply, Failed):
            self._fail(reply.id, entry, from_info(reply.error))
            return
        payload = frames[1:]
        if entry.call.absorb is not None:
            try:
                credit = entry.call.absorb(reply, payload)
            except CircuitError as e:
                self._fail(reply.id, entry, e)
                return
            if credit is not None:
                self._post(credit)
        entry.begun = True
        if reply.final:
            self._finish(reply.id)
        elif entry.call.absorb is not None:
            return
        entry.sink.deliver(reply, payload)

    def on_lost(self, reason: str) -> None:
        """The line is down. What may be repeated waits for the next welcome; the rest fails."""
        self.phase = "away"
        self.outgoing.clear()
        for request_id, entry in list(self._unanswered.items()):
            if not entry.sent:
                continue
            if entry.call.resend and not entry.begun and entry.resends < self.MAX_RESENDS:
                entry.sent = False
                entry.resends += 1
            else:
                self._finish(request_id).fail(
                    ConnectError(
                        "the line to the daemon was lost before the request was answered",
                        found=reason,
                        hint="Ask again: the connection restores itself",
                    )
                )

    def on_time(self, now_s: float) -> None:
        """Give up on requests that waited too long for a line."""
        if self.phase == "open":
            return
        for request_id, entry in list(self._unanswered.items()):
            if not entry.sent and entry.give_up_at_s <= now_s:
                self._finish(request_id).fail(
                    ConnectError(
                        f"the daemon has been out of reach for {self._wait_s:g} s",
                        hint="`circuitd status` says whether it runs",
                    )
                )

    def wakes_at_s(self) -> float | None:
        """When `on_time` has something to do; None: nothing waits."""
        if self.phase == "open":
            return None
        waiting = [e.give_up_at_s for e in self._unanswered.values() if not e.sent]
        return min(waiting, default=None)

    def end(self, error: CircuitError) -> None:
        """No line will come up again: fail all requests, now and from now on."""
        if self.ended_by is None:
            self.ended_by = error
        self.phase = "over"
        for request_id in list(self._unanswered):
            self._finish(request_id).fail(error)

    # -------------------------------------------------------------------------------- inside

    def _on_greeting(self, reply: AnyReply) -> None:
        if isinstance(reply, Failed):
            self.end(from_info(reply.error))
            return
        if not isinstance(reply, Welcome):
            self.end(MalformedMessage("the daemon answered hello with something else"))
            return
        if not is_compatible(reply.version):
            self.end(
                UnsupportedVersion(
                    "the daemon speaks another version of the protocol",
                    asked=PROTOCOL_VERSION,
                    found=reply.version,
                    hint="Update whichever of the two is older",
                )
            )
            return
        if self.welcome is not None and self.welcome.instance != reply.instance:
            self._leases.clear()
            self._to_release.clear()
        self.welcome = reply
        self.phase = "open"
        for request_id, entry in list(self._unanswered.items()):
            if not entry.sent:
                self._send(request_id, entry)

    def _fail(self, request_id: str, entry: _Unanswered, error: CircuitError) -> None:
        """A request has ended in `error`, unless there is another way to ask for the same."""
        if entry.call.otherwise is None:
            self._finish(request_id).fail(error)
        else:  # its final reply has come, so that its id is free again
            entry.call = entry.call.otherwise
            self._send(request_id, entry)

    def _send(self, request_id: str, entry: _Unanswered) -> None:
        assert self.welcome is not None  # the phase is open
        call = entry.call
        if call.otherwise is not None and call.capability not in self.welcome.capabilities:
            call = entry.call = call.otherwise
        try:
            if call.instance not in (None, self.welcome.instance):
                raise NotFound(
                    "the daemon that held this tensor has ended",
                    hint="Its handles ended with it: record the tensor again",
                )
            if call.needs_default_model and self.welcome.default_model is None:
                raise InvalidRequest(
                    "the daemon has no default model",
                    hint="Name one: `circuit models list` shows what there is",
                )
            request = call.numbered(request_id, self.welcome.default_model)
            message = (encode(request), *call.frames)
            check_frames(message, self.welcome.limits)
        except CircuitError as e:
            self._finish(request_id).fail(e)
            return
        except (TypeError, ValueError, OverflowError) as e:
            self._finish(request_id).fail(
                InvalidRequest("an argument has a type that does not travel", found=str(e))
            )
            return
        entry.sent = True
        self.outgoing.append(message)

    def _is_current(self, instance: str) -> bool:
        return self.welcome is not None and self.welcome.instance == instance

    def _post(self, request: Any) -> None:
        self.outgoing.append((encode(request),))

    def _finish(self, request_id: str) -> Sink:
        return self._unanswered.pop(request_id).sink

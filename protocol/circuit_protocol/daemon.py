"""The daemon itself: the handshake, its state, its end, and what any request may be told.

Hello, status and cancel never wait behind work.
"""

from typing import Literal

import msgspec

from circuit_protocol.errors import ErrorInfo
from circuit_protocol.messages import Reply, Request, RequestId
from circuit_protocol.models import Resident


class Hello(Request, frozen=True, kw_only=True, omit_defaults=True, tag="hello"):
    """The first message on every connection."""

    versions: tuple[str, ...]
    client: str = ""
    capabilities: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the daemon enforces before it allocates anything.

    Per message: bytes of a frame and of all frames, and their number. Per request: `rows` of its
    batch, `positions` of all its rows together (padding included), `masks`. Per client:
    `queued_requests`, unfinished ones, and `held_nbytes` of tensors it leases under handles.
    """

    frame_nbytes: int
    message_nbytes: int
    frames: int
    rows: int
    positions: int
    masks: int
    queued_requests: int
    held_nbytes: int


class Welcome(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="welcome"):
    """Answers hello. A changed `instance` means another daemon: handles and requests are gone."""

    version: str
    server: str
    instance: str
    pid: int
    capabilities: tuple[str, ...]
    limits: Limits
    default_model: str | None = None


class Status(Request, frozen=True, kw_only=True, omit_defaults=True, tag="status"):
    """How the daemon does: processes, queues, memory, models; never waits behind work."""


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process of the daemon."""

    role: Literal["front", "worker"]
    pid: int
    rss_nbytes: int
    device: str | None = None
    state: str = "ready"
    restarts: int = 0
    running: tuple[str, ...] = ()


class StatusReport(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="status.report"):
    """How the daemon does."""

    version: str
    instance: str
    uptime_s: float
    endpoints: tuple[str, ...]
    processes: tuple[ProcessInfo, ...]
    clients: int
    queued: int
    running: int
    completed: int
    failed: int
    resident: tuple[Resident, ...] = ()
    jobs_unfinished: int = 0
    budget_nbytes: int = 0
    used_nbytes: int = 0


class Shutdown(Request, frozen=True, kw_only=True, omit_defaults=True, tag="shutdown"):
    """End the daemon: `drain` lets accepted work finish first; jobs resume at the next start."""

    drain: bool = True


class Cancel(Request, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """End request `target` of this client within one step.

    Idempotent; the `done` reply says in `changed` whether the target was still unfinished.
    """

    target: RequestId


class Failed(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """The request ended in an error."""

    error: ErrorInfo


class Done(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="done"):
    """The request was carried out and there is nothing else to say; `changed` is False if it was
    already so (a cancel that came too late, a release of unknown handles).
    """

    changed: bool = True


class Progress(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="progress"):
    """How far a long request is; at most ten a second. Never final."""

    stage: str
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    eta_s: float | None = None
    loss: float | None = None
    #: Nodes kept so far, while pruning.
    k: int | None = None

"""Jobs: requests that run on without their client; listed, watched and cancelled."""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.errors import ErrorInfo
from circuit_protocol.messages import Name, Reply, Request


class JobAccepted(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="job.accepted"):
    """The request runs as a job now, with or without this client."""

    job: str


class ListJobs(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.list"):
    """Jobs, newest first."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 100
    unfinished_only: bool = False


class GetJob(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.get"):
    """One job's record."""

    job: Name


class JobInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's record. Times are seconds since the epoch."""

    job: str
    request_type: str
    description: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    created_at_s: float
    finished_at_s: float | None = None
    done: float = 0.0
    total: float | None = None
    error: ErrorInfo | None = None
    resumes: int = 0


class JobList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.listed"):
    """Answers jobs.list and jobs.get."""

    jobs: tuple[JobInfo, ...]


class WatchJob(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.watch"):
    """Follow a job: progress and partial results, and at its end the very reply of its request."""

    job: Name


class CancelJob(Request, frozen=True, kw_only=True, omit_defaults=True, tag="jobs.cancel"):
    """End a job within one step. Idempotent."""

    job: Name

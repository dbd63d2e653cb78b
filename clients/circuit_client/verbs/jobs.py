"""`jobs.*`, and turning any call on a model into a job."""

from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from circuit_client.answers import Answer, read_any
from circuit_client.call import UNSENT_ID, Call, Received, progress_only, read_done
from circuit_protocol.errors import InvalidRequest, NotFound
from circuit_protocol.replies import JobAccepted, JobInfo, JobList, Progress, Reply
from circuit_protocol.requests import CancelJob, GetJob, ListJobs, ModelRequest, WatchJob

E = TypeVar("E")
R = TypeVar("R")


def list_jobs(
    *, limit: int = 100, unfinished_only: bool = False
) -> Call[Progress, tuple[JobInfo, ...]]:
    """Jobs, newest first."""

    def read(received: Received) -> tuple[JobInfo, ...]:
        return received.expect(JobList).jobs

    request = ListJobs(id=UNSENT_ID, limit=limit, unfinished_only=unfinished_only)
    return Call(request, read, progress_only)


def get(job: str) -> Call[Progress, JobInfo]:
    """One job's record."""

    def read(received: Received) -> JobInfo:
        jobs = received.expect(JobList).jobs
        if not jobs:
            raise NotFound("no job has this name", asked=job)
        return jobs[0]

    return Call(GetJob(id=UNSENT_ID, job=job), read, progress_only)


def watch(job: str) -> Call[Answer | Reply, Answer | Reply]:
    """Follow a job: its progress and parts as events, and the very answer of its request."""
    return Call(WatchJob(id=UNSENT_ID, job=job), read_any, read_any)


def cancel(job: str) -> Call[Progress, bool]:
    """End a job within one step; False if it had ended."""
    return Call(CancelJob(id=UNSENT_ID, job=job), read_done, progress_only)


def detached(call: Call[Any, Any]) -> Call[Progress, str]:
    """The same request as a job: answers its name. A retry over a lost line makes no second job."""
    if not isinstance(call.request, ModelRequest):
        raise InvalidRequest("only requests on a model can run as jobs")

    def read(received: Received) -> str:
        return received.expect(JobAccepted).job

    request = msgspec.structs.replace(call.request, detach=True, idempotency_key=uuid4().hex)
    return Call(
        request, read, progress_only, frames=call.frames, instance=call.instance, resend=True
    )


def watched(job: str, call: Call[E, R]) -> Call[E, R]:
    """Follow the job that `call` became, reading its replies as `call` would."""
    return Call(
        WatchJob(id=UNSENT_ID, job=job),
        call.read_result,
        call.read_event,
        progress=call.progress,
    )

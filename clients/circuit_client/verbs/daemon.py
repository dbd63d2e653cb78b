"""`hello`, `status`, `shutdown`."""

from circuit_client.call import UNSENT_ID, Call, progress_only, read_done, whole
from circuit_protocol.replies import Progress, StatusReport, Welcome
from circuit_protocol.requests import Hello, Shutdown, Status
from circuit_protocol.version import PROTOCOL_VERSION


def hello(client: str = "") -> Call[Progress, Welcome]:
    """Greet once more: versions, capabilities, limits and the default model."""
    request = Hello(id=UNSENT_ID, versions=(PROTOCOL_VERSION,), client=client)
    return Call(request, whole(Welcome), progress_only)


def status() -> Call[Progress, StatusReport]:
    """How the daemon does: processes, queues, memory, resident models."""
    return Call(Status(id=UNSENT_ID), whole(StatusReport), progress_only)


def shutdown(*, drain: bool = True) -> Call[Progress, bool]:
    """End the daemon; `drain` lets accepted work finish first. Jobs resume at the next start."""
    request = Shutdown(id=UNSENT_ID, drain=drain)
    return Call(request, read_done, progress_only, resend=False)

"""A `TaskError` as clients see it: not found for an unknown task, else the request's fault."""

from __future__ import annotations

from circuit_protocol.errors import CircuitError, InvalidRequest, NotFound
from circuitd.tasks.errors import TaskError


def as_refusal(error: TaskError) -> CircuitError:
    """The protocol's error for `error`, with the nearest names or what to do."""
    kind = NotFound if error.problem == "no such task" else InvalidRequest
    return kind(
        error.problem if error.path is None else f"{error.path}: {error.problem}",
        asked=error.task,
        found=error.found,
        hint=error.advice if error.advice and not error.nearest else None,
        nearest=error.nearest,
    )

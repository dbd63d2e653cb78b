"""From our errors to JSON-RPC's: each kind has a stable code, and words instead of a traceback.

Codes lie outside the ranges that JSON-RPC and LSP reserve (-32768 to -32000 and -32899 to -32800).
They are part of docs/lsp.md: a code keeps its meaning, a new kind of error gets a new one.
"""

from typing import Final

import msgspec
from pygls.exceptions import JsonRpcException

from circuit_lsp.messages.shared import Problem
from circuit_protocol.errors import CircuitError, ErrorInfo, InternalError

#: JSON-RPC code of each kind of error, by the error's own code.
CODES: Final[dict[str, int]] = {
    "error": -33000,
    "request_error": -33001,
    "malformed_message": -33002,
    "unsupported_version": -33003,
    "invalid_request": -33004,
    "bad_shape": -33005,
    "bad_tokens": -33006,
    "bad_intervention": -33007,
    "not_found": -33008,
    "too_large": -33009,
    "conflict": -33010,
    "forbidden": -33011,
    "checkpoint_error": -33012,
    "unavailable": -33020,
    "busy": -33021,
    "out_of_memory": -33022,
    "worker_died": -33023,
    "shutting_down": -33024,
    "storage_full": -33025,
    "stopped": -33030,
    "cancelled": -32800,  # LSP's own RequestCancelled
    "deadline_exceeded": -33032,
    "connect_error": -33040,
    "key_refused": -33041,
    "internal_error": -33050,
}


def problem_of(error: CircuitError | ErrorInfo) -> Problem:
    """The error in words."""
    info = error.to_info() if isinstance(error, CircuitError) else error
    return Problem(
        code=info.code,
        message=info.message,
        blame=info.blame,
        retry=info.retry,
        asked=info.asked,
        found=info.found,
        hint=info.hint,
        nearest=info.nearest,
    )


def response_error(error: CircuitError) -> JsonRpcException:
    """`error` as an error response: one sentence, and its parts in `data`."""
    data = msgspec.to_builtins(problem_of(error))
    return JsonRpcException(str(error), code=CODES.get(error.code, CODES["error"]), data=data)


def as_circuit_error(error: Exception) -> CircuitError:
    """`error`, or what is said of a defect of this server: its name, and no traceback."""
    if isinstance(error, CircuitError):
        return error
    return InternalError(
        "the language server failed at this",
        found=f"{type(error).__name__}: {error}",
        hint="Its output has the details",
    )

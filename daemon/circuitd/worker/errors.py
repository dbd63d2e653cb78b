"""The one table from what goes wrong in a worker to the errors of the protocol.

    engine   ConfigError, WeightsError   CheckpointError
             UnknownSite                 NotFound, with the nearest names
             TokenError                  BadTokens
             InterventionError           BadIntervention
             PlanError, DeviceError      InvalidRequest
             Cancelled                   Cancelled or DeadlineExceeded, as the front asked
    circuits FindError                   InvalidRequest
    tasks    TaskError                   NotFound for an unknown task, else InvalidRequest
    store    TokenizerError              CheckpointError for a file, else InvalidRequest
    torch    out of memory               OutOfMemory
    OS       no room, quota              StorageFull
             missing, not permitted      NotFound, Forbidden
    else                                 InternalError, and the traceback in the log

An error of the protocol passes unchanged.
"""

from __future__ import annotations

import errno
import logging
from typing import Final, Literal

import torch

from circuit_protocol.errors import (
    BadIntervention,
    BadTokens,
    Cancelled,
    CheckpointError,
    CircuitError,
    DeadlineExceeded,
    Forbidden,
    InternalError,
    InvalidRequest,
    NotFound,
    OutOfMemory,
    StorageFull,
)
from circuitd.circuits.errors import FindError
from circuitd.engine import errors as engine
from circuitd.store.tokenizer import TokenizerError
from circuitd.tasks.errors import TaskError
from circuitd.tasks.refusal import as_refusal

_log = logging.getLogger(__name__)

StopReason = Literal["cancelled", "deadline_exceeded"]

#: Engine error type to protocol type and the sentence that opens it; subclasses before their base.
_ENGINE: Final[tuple[tuple[type[engine.EngineError], type[CircuitError], str], ...]] = (
    (engine.ConfigError, CheckpointError, "no network can have this configuration"),
    (engine.WeightsError, CheckpointError, "these weights do not make this network"),
    (engine.TokenError, BadTokens, "the model cannot take these tokens"),
    (engine.InterventionError, BadIntervention, "this intervention cannot act"),
    (engine.PlanError, InvalidRequest, "the request contradicts itself"),
    (engine.DeviceError, InvalidRequest, "this machine has no such device"),
    (engine.EngineError, InvalidRequest, "the engine refuses this"),
)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: How the engine introduces the names that come nearest to an unknown site.
_NEAREST: Final = "nearest: "


def stopped(reason: StopReason) -> CircuitError:
    """The error that ends an item the front stopped."""
    if reason == "deadline_exceeded":
        return DeadlineExceeded("the request's deadline passed before it was done")
    return Cancelled("the request was cancelled")


def as_circuit_error(error: Exception, *, where: str, reason: StopReason | None) -> CircuitError:
    """`error` as clients will see it. What is nobody's known mistake is logged with its traceback.

    `where` names the request in the log; `reason` is why the item was stopped, if it was.
    """
    match error:
        case CircuitError():
            return error
        case engine.Cancelled():
            return stopped(reason or "cancelled")
        case engine.EngineError():
            return _from_engine(error)
        case FindError():
            return InvalidRequest(
                error.message, asked=error.asked, found=error.found, hint=error.hint or None
            )
        case TaskError():
            return as_refusal(error)
        case TokenizerError():
            kind = InvalidRequest if error.path is None else CheckpointError
            return kind(str(error))
        case torch.OutOfMemoryError() | MemoryError():
            return _out_of_memory(error)
        case RuntimeError() if "can't allocate memory" in str(error):
            return _out_of_memory(
                error
            )  # what torch's CPU allocator says, without a type of its own
        case OSError():
            return _from_os(error, where)
        case _:
            return _unknown(error, where)


def is_fatal(error: Exception) -> bool:
    """Whether the process must end: after a failed kernel a CUDA context answers nothing more."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    lost = ("CUDA error", "Triton Error [CUDA]")
    return isinstance(error, RuntimeError) and any(said in str(error) for said in lost)


def _from_engine(error: engine.EngineError) -> CircuitError:
    hint = error.hint or None
    if isinstance(error, engine.UnknownSite):
        nearest: list[str] = []
        if hint is not None and hint.startswith(_NEAREST):
            nearest, hint = hint.removeprefix(_NEAREST).split(", "), None
        return NotFound(
            "no site has this name", asked=error.asked, found=error.found, hint=hint,
            nearest=nearest,
        )  # fmt: skip
    for engine_type, wire_type, sentence in _ENGINE:
        if isinstance(error, engine_type):
            return wire_type(sentence, asked=error.asked, found=error.found, hint=hint)
    raise AssertionError(error)  # the last line of the table takes every EngineError


def _out_of_memory(error: Exception) -> OutOfMemory:
    return OutOfMemory(
        "the device has no memory left for this",
        found=str(error).partition("\n")[0][:300],
        hint="Send fewer or shorter rows, record less, or unload other models",
    )


def _from_os(error: OSError, where: str) -> CircuitError:
    said = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return StorageFull("the disk has no room", asked=error.filename, found=said)
    if error.errno == errno.ENOMEM:
        return _out_of_memory(error)
    if isinstance(error, FileNotFoundError):
        return NotFound("a file is missing", asked=error.filename, found=said)
    if isinstance(error, PermissionError):
        return Forbidden("a file may not be used", asked=error.filename, found=said)
    return _unknown(error, where)


def _unknown(error: Exception, where: str) -> InternalError:
    _log.error("%s failed", where, exc_info=error)
    return InternalError(
        f"a defect in circuitd: {type(error).__name__}",
        found=str(error).partition("\n")[0][:300] or None,
        hint=f"The worker's log has the traceback under {where!r}",
    )

"""The table: what each kind of failure becomes on the wire."""

from __future__ import annotations

import errno
import logging

import pytest
import torch

from circuit_protocol import errors as wire
from circuitd.engine import errors as engine
from circuitd.store.tokenizer import TokenizerError
from circuitd.tasks.errors import TaskError
from circuitd.worker.errors import as_circuit_error, is_fatal


def allocation_failure() -> RuntimeError:
    """What torch itself raises for a tensor no machine can hold."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (wire.Busy("later", retry_after_s=2.0), wire.Busy),
        (engine.ConfigError("a", "b"), wire.CheckpointError),
        (engine.WeightsError("a", "b"), wire.CheckpointError),
        (engine.UnknownSite("a", "b"), wire.NotFound),
        (engine.TokenError("a", "b"), wire.BadTokens),
        (engine.InterventionError("a", "b"), wire.BadIntervention),
        (engine.PlanError("a", "b"), wire.InvalidRequest),
        (engine.DeviceError("a", "b"), wire.InvalidRequest),
        (engine.EngineError("a", "b"), wire.InvalidRequest),
        (TaskError("no such task", found="'x'"), wire.NotFound),
        (TaskError("a target of two tokens"), wire.InvalidRequest),
        (TokenizerError("text"), wire.InvalidRequest),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), wire.OutOfMemory),
        (MemoryError(), wire.OutOfMemory),
        (OSError(errno.ENOSPC, "No space left on device", "f"), wire.StorageFull),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), wire.OutOfMemory),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), wire.NotFound),
        (PermissionError(errno.EACCES, "Permission denied", "f"), wire.Forbidden),
        (OSError(errno.EIO, "I/O error"), wire.InternalError),
        (ValueError("a defect"), wire.InternalError),
    ],
)
def test_every_known_failure_has_its_type(error, expected):
    assert type(as_circuit_error(error, where="x", reason=None)) is expected


def test_torchs_own_allocation_failure_is_out_of_memory():
    found = as_circuit_error(allocation_failure(), where="x", reason=None)
    assert type(found) is wire.OutOfMemory
    assert found.retry


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("cancelled", wire.Cancelled), ("deadline_exceeded", wire.DeadlineExceeded)],
)
def test_a_stop_in_the_engine_becomes_what_the_front_asked(reason, expected):
    assert type(as_circuit_error(engine.Cancelled(), where="x", reason=reason)) is expected


def test_an_engine_error_keeps_what_was_asked_found_and_hinted():
    error = engine.InterventionError("zero at 0.attn.q", "channel [9]", "channels 0..7")
    found = as_circuit_error(error, where="x", reason=None)
    assert (found.asked, found.found, found.hint) == (
        "zero at 0.attn.q",
        "channel [9]",
        "channels 0..7",
    )


def test_only_defects_are_logged_with_a_traceback(caplog):
    with caplog.at_level(logging.INFO):
        as_circuit_error(engine.TokenError("a", "b"), where="forward 1", reason=None)
        assert caplog.text == ""
        as_circuit_error(KeyError("x"), where="forward 2", reason=None)
    assert "forward 2" in caplog.text


def test_a_failed_kernel_is_fatal_and_a_full_device_is_not():
    assert is_fatal(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_fatal(RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"))
    assert not is_fatal(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_fatal(RuntimeError("shapes do not fit"))

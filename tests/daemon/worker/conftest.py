"""Fixtures of the worker's tests: a tiny model, a loop that has it resident, prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from circuit_protocol.requests import Prompts
from circuit_protocol.tensors import Frame, Tensor, pack
from circuitd import work
from circuitd.store.circuits import CircuitStore
from circuitd.store.segments import SegmentDir
from circuitd.tasks.registry import TaskRegistry
from circuitd.worker.handlers import all_handlers
from circuitd.worker.host import Host
from circuitd.worker.models import Models
from circuitd.worker.tokenizers import Tokenizers
from worker_desk import DATA, Desk, make_desk, write_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    (tree / "tinypython").symlink_to(DATA / "tinypython")
    return write_model(tree / "models" / "tiny")


@pytest.fixture(scope="session")
def tokenizers() -> Tokenizers:
    """Loaded once for all tests: building one takes longer than most of them."""
    return Tokenizers()


@pytest.fixture
def desk(
    model_directory: Path, tokenizers: Tokenizers, tmp_path: Path, request: pytest.FixtureRequest
) -> Desk:
    """A worker's loop with the tiny model resident and all handlers; on the CPU, or on the device
    that a module asks for.
    """
    held = tmp_path / "segments"
    held.mkdir(mode=0o700)
    host = Host(
        Models(torch.device(getattr(request, "param", "cpu")), tokenizers),
        SegmentDir(held),
        TaskRegistry(),
        CircuitStore(tmp_path / "circuits"),
    )
    key = work.ModelKey(path=str(model_directory), signature="1")
    host.models.load(key)
    return make_desk(host, key, all_handlers())


@pytest.fixture
def packed() -> Callable[..., Tensor]:
    """A tensor small enough to travel inside the header."""

    def small(array: object, dtype: object = None) -> Tensor:
        frames: list[Frame] = []
        tensor = pack(np.asarray(array, dtype=dtype), frames)  # type: ignore[arg-type]  # numpy's own DTypeLike
        assert not frames
        return tensor

    return small


@pytest.fixture
def prompts(packed: Callable[..., Tensor]) -> Prompts:
    """Three ragged rows: 7, 4 and 6 tokens."""
    tokens = np.random.default_rng(0).integers(0, 2048, (3, 7))
    return Prompts(tokens=packed(tokens, np.int32), lengths=(7, 4, 6))

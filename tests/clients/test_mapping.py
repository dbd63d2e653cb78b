"""Tensors on this machine are mapped; wherever that does not work, their bytes are sent."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuit_client import connect, connect_async, mapping
from circuit_client.mapping import map_file
from circuit_protocol import errors, replies, requests
from circuit_protocol.tensors import Handle, pack
from circuit_protocol.version import MAP_TENSOR
from scripted_daemon import Out, daemon, welcome

ARRAY = np.random.default_rng(0).random((64, 1024), dtype=np.float32)
HANDLE = Handle(handle="t-1", dtype="F32", shape=ARRAY.shape, nbytes=ARRAY.nbytes)
GREETING = welcome(capabilities=(MAP_TENSOR,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The tensor as the daemon would keep it."""
    path = tmp_path / "t-1"
    path.touch(0o600)
    path.write_bytes(ARRAY.tobytes())
    return path


def forward(request: Any, frames: list) -> Iterator[Out]:
    small = pack(np.zeros((1, 1), np.int32), [])
    yield replies.ForwardResult(id="x", tokens=small, lengths=small, logits=HANDLE)


def scripts(path: Path) -> dict[type, Any]:
    def tell(request: requests.MapTensor, frames: list) -> Iterator[Out]:
        assert request.handle == HANDLE.handle
        yield replies.Mapped(id="x", path=str(path), nbytes=ARRAY.nbytes)

    return {requests.Forward: forward, requests.MapTensor: tell}


# ------------------------------------------------------------------------------------- the file


def test_a_mapped_file_is_the_callers_own_and_outlives_its_name(file: Path) -> None:
    mapped = map_file(file, HANDLE)
    np.testing.assert_array_equal(mapped, ARRAY)
    mapped[0, 0] = 7.0
    assert np.fromfile(file, np.float32)[0] == ARRAY[0, 0]
    file.unlink()
    assert mapped[0, 0] == 7.0
    np.testing.assert_array_equal(mapped[1:], ARRAY[1:])


def n_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_outlives_the_array(file: Path) -> None:
    before = n_descriptors()
    row = map_file(file, HANDLE)[0]
    np.testing.assert_array_equal(row, ARRAY[0])
    del row
    gc.collect()
    assert n_descriptors() == before


def test_so_many_are_mapped_and_more_are_sent(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()
    monkeypatch.setattr(mapping, "MAX_MAPPED", 2)
    with daemon(tmp_path, scripts(file), greeting=GREETING) as d, connect(d.endpoint) as c:
        d.held["t-1"] = ARRAY
        arrays = [c.forward(tokens=[1]).logits for _ in range(3)]
        assert asked(d) == [requests.MapTensor, requests.MapTensor, requests.Fetch]
        for array in arrays:
            np.testing.assert_array_equal(array, ARRAY)


def truncated(file: Path) -> Path:
    os.truncate(file, 100)
    return file


def readable_by_others(file: Path) -> Path:
    file.chmod(0o644)
    return file


def linked(file: Path) -> Path:
    (file.parent / "elsewhere").mkdir()
    link = file.parent / "elsewhere" / file.name
    link.symlink_to(file)
    return link


def pipe(file: Path) -> Path:
    file.unlink()
    os.mkfifo(file, 0o600)
    return file


def removed(file: Path) -> Path:
    file.unlink()
    return file


def renamed(file: Path) -> Path:
    return file.rename(file.parent / "t-2")


WRONG = [truncated, readable_by_others, linked, pipe, removed, renamed]


@pytest.mark.parametrize("spoil", WRONG)
def test_what_is_not_the_tensors_file_is_refused(file: Path, spoil: Callable[[Path], Path]) -> None:
    with pytest.raises(errors.NotFound, match="not the tensor's file"):
        map_file(spoil(file), HANDLE)


def test_a_handle_that_contradicts_itself_is_refused(file: Path) -> None:
    wrong = Handle(handle="t-1", dtype="F32", shape=(3, 3), nbytes=ARRAY.nbytes)
    with pytest.raises(errors.NotFound):
        map_file(file, wrong)


# ----------------------------------------------------------------------------------- connections


def asked(d: Any) -> list[type]:
    kinds = (requests.MapTensor, requests.Fetch)
    return [type(request) for request in list(d.seen.queue) if isinstance(request, kinds)]


def test_a_tensor_on_this_machine_is_mapped_and_not_sent(tmp_path: Path, file: Path) -> None:
    with daemon(tmp_path, scripts(file), greeting=GREETING) as d, connect(d.endpoint) as c:
        np.testing.assert_array_equal(c.forward(tokens=[1]).logits, ARRAY)
        fetched = c.tensors.fetch(c.forward(tokens=[1]).logits_value)
        np.testing.assert_array_equal(fetched, ARRAY)
        assert asked(d) == [requests.MapTensor] * 2


async def test_an_asynchronous_connection_maps_as_well(tmp_path: Path, file: Path) -> None:
    with daemon(tmp_path, scripts(file), greeting=GREETING) as d:
        async with connect_async(d.endpoint) as c:
            np.testing.assert_array_equal((await c.forward(tokens=[1])).logits, ARRAY)
        assert asked(d) == [requests.MapTensor]


@pytest.mark.parametrize("spoil", WRONG)
def test_where_the_file_cannot_be_mapped_the_bytes_are_sent(
    tmp_path: Path, file: Path, spoil: Callable[[Path], Path]
) -> None:
    path = spoil(file)
    with daemon(tmp_path, scripts(path), greeting=GREETING) as d, connect(d.endpoint) as c:
        d.held["t-1"] = ARRAY
        np.testing.assert_array_equal(c.forward(tokens=[1]).logits, ARRAY)
        assert asked(d) == [requests.MapTensor, requests.Fetch]


def test_a_daemon_that_refuses_to_say_where_sends_the_bytes(tmp_path: Path) -> None:
    def refuse(request: Any, frames: list) -> Iterator[Out]:
        yield errors.Forbidden("not here")

    told = {requests.Forward: forward, requests.MapTensor: refuse}
    with daemon(tmp_path, told, greeting=GREETING) as d, connect(d.endpoint) as c:
        d.held["t-1"] = ARRAY
        np.testing.assert_array_equal(c.forward(tokens=[1]).logits, ARRAY)


def test_a_daemon_without_the_capability_is_not_asked(tmp_path: Path, file: Path) -> None:
    with daemon(tmp_path, scripts(file)) as d, connect(d.endpoint) as c:
        d.held["t-1"] = ARRAY
        np.testing.assert_array_equal(c.forward(tokens=[1]).logits, ARRAY)
        assert asked(d) == [requests.Fetch]

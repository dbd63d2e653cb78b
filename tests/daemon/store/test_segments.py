"""Segments: what one process writes another reads, nothing leaks, nothing escapes the directory."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_protocol.errors import InvalidRequest, NotFound, StorageFull
from circuit_protocol.tensors import NUMPY_DTYPES
from circuitd.store import segments
from circuitd.store.segments import OwnedSegmentDir, SegmentDir


@pytest.fixture
def held(tmp_path: Path):
    directory = OwnedSegmentDir(tmp_path / segments.directory_name("0123abcd"))
    yield directory
    directory.close()


def test_what_is_written_is_read_by_another_instance_of_the_directory(held: OwnedSegmentDir):
    segment, array = held.create("F32", (3, 5), description="logits")
    array[:] = np.arange(15, dtype=np.float32).reshape(3, 5)
    read = SegmentDir(held.path).read(segment)
    np.testing.assert_array_equal(read, np.arange(15).reshape(3, 5))
    assert not read.flags.writeable
    assert bytes(held.open(segment)[4:8]) == np.float32(1).tobytes()


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(sorted(NUMPY_DTYPES)),
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
)
def test_any_dtype_and_shape_has_its_size_and_starts_as_zeros(tmp_path_factory, dtype, shape):
    directory = SegmentDir(tmp_path_factory.mktemp("segments"))
    segment, array = directory.create(dtype, shape)
    assert array.shape == shape
    assert segment.nbytes == array.nbytes == directory.total_nbytes()
    assert not array.any()
    assert directory.read(segment).shape == shape


def test_files_are_private_and_names_cannot_be_guessed(held: OwnedSegmentDir):
    names = {held.create("U8", (1,))[0].handle for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) == 2 + 32 for name in names)
    assert stat.S_IMODE(held.path.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in held.path.iterdir())


@pytest.mark.parametrize(
    "file", ["../secret", "/etc/passwd", "t-" + "0" * 31 + "/", "owner.lock", "", "t-\0" * 10]
)
def test_a_name_that_is_no_handle_never_reaches_the_file_system(held: OwnedSegmentDir, file: str):
    (held.path.parent / "secret").write_bytes(b"x")
    segment, _ = held.create("U8", (1,))
    forged = msgspec.structs.replace(segment, file=file)
    for use in (held.open, held.delete):
        with pytest.raises(NotFound):
            use(forged)
    assert (held.path.parent / "secret").exists()


def test_a_symlink_in_the_place_of_a_segment_is_not_followed(held: OwnedSegmentDir, tmp_path: Path):
    segment, _ = held.create("U8", (4,))
    (tmp_path / "secret").write_bytes(b"1234")
    (held.path / segment.file).unlink()
    (held.path / segment.file).symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        held.open(segment)


def test_a_file_of_another_size_than_promised_is_not_mapped(held: OwnedSegmentDir):
    segment, _ = held.create("U8", (4096,))
    os.truncate(held.path / segment.file, 10)  # reading past it would be a SIGBUS
    with pytest.raises(NotFound):
        held.open(segment)


def test_a_deleted_segment_is_gone_but_who_has_it_mapped_keeps_it(held: OwnedSegmentDir):
    segment, array = held.create("I32", (2,))
    array[:] = 7
    view = held.open(segment)
    assert held.delete(segment)
    assert not held.delete(segment)
    assert held.total_nbytes() == 0
    assert np.frombuffer(view, np.int32).tolist() == [7, 7]
    with pytest.raises(NotFound):
        held.open(segment)


def test_views_let_go_of_their_file_descriptors(held: OwnedSegmentDir):
    segment, _ = held.create("U8", (4096,))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        held.open(segment)
        held.read(segment)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_impossible_shapes_are_refused(held: OwnedSegmentDir):
    for shape in ((-1,), (1,) * 9):
        with pytest.raises(InvalidRequest):
            held.create("U8", shape)


def test_beyond_the_budget_creating_is_storage_full_until_something_is_deleted(tmp_path: Path):
    directory = SegmentDir(tmp_path, budget_nbytes=1000)
    first, _ = directory.create("U8", (600,))
    with pytest.raises(StorageFull, match="600 of 1000"):
        directory.create("U8", (401,))
    directory.delete(first)
    directory.create("U8", (401,))


FILL = """
import resource, sys
from pathlib import Path
from circuit_protocol.errors import StorageFull
from circuitd.store.segments import SegmentDir
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
directory = SegmentDir(Path(sys.argv[1]))
directory.create("U8", (1000,))
try:
    directory.create("U8", (1 << 20,))
except StorageFull:
    print("full")
"""


def test_a_full_disk_is_storage_full_and_leaves_no_part_of_a_file(tmp_path: Path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1 << 16  # only the child is limited
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "full"
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [1000]


OWN = """
import os, sys
from pathlib import Path
from circuitd.store import segments
directory = segments.OwnedSegmentDir(Path(sys.argv[1]) / segments.directory_name(sys.argv[2]))
directory.create("U8", (1000,))
print("made", flush=True)
sys.stdin.read()
"""


def test_only_directories_of_dead_daemons_are_swept(tmp_path: Path):
    def owner(instance: str) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-c", OWN, str(tmp_path), instance],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"made\n"
        return child

    with owner("dead") as dead, owner("alive") as alive:
        dead.kill()
        dead.wait()
        (tmp_path / "circuitd-other").mkdir()
        unborn = tmp_path / segments.directory_name("unborn")
        unborn.mkdir()
        assert segments.sweep([tmp_path]) == [tmp_path / segments.directory_name("dead")]
        assert (tmp_path / segments.directory_name("alive")).is_dir()
        os.utime(unborn, (0, 0))
        assert segments.sweep([tmp_path]) == [unborn]
        alive.kill()
    assert (tmp_path / "circuitd-other").is_dir()


def test_a_root_with_enough_room_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    room = {Path("/dev/shm"): 10, tmp_path: 1000}
    monkeypatch.setattr(segments, "roots", lambda: tuple(room))
    monkeypatch.setattr(
        segments.shutil, "disk_usage", lambda root: type("Usage", (), {"free": room[root]})
    )
    assert segments.choose_root(5) == Path("/dev/shm")
    assert segments.choose_root(100) == tmp_path
    assert segments.choose_root(10**6) == tmp_path

"""The discovery file: private, whole, and only as long as its daemon lives."""

import os
import stat
import subprocess
import sys
import threading

import msgspec
import pytest

from circuit_protocol import discovery as module
from circuit_protocol.discovery import (
    Discovery,
    process_start_ticks,
    read_discovery,
    remove_discovery,
    write_discovery,
)
from circuit_protocol.endpoints import DISCOVERY_NAME
from circuit_protocol.errors import Forbidden


def described(**changes) -> Discovery:
    discovery = Discovery(
        endpoint="ipc:///run/c.sock",
        endpoints=("ipc:///run/c.sock", "tcp://127.0.0.1:5555"),
        pid=os.getpid(),
        pid_start_ticks=process_start_ticks(os.getpid()),
        instance="i1",
        version="1.0",
        server_public_key="k" * 40,
        started_at_s=1.5,
    )
    return msgspec.structs.replace(discovery, **changes)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    return path


def test_running_daemon_is_found(directory):
    path = write_discovery(described(), directory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_discovery(directory) == described()
    assert [p.name for p in directory.iterdir()] == [DISCOVERY_NAME]


def test_no_file_is_no_daemon(tmp_path, directory):
    assert read_discovery(directory) is None
    assert read_discovery(tmp_path / "nowhere") is None


def test_ended_process_is_no_daemon(directory):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_discovery(described(pid=child.pid, pid_start_ticks=None), directory)
    assert read_discovery(directory) is None


def test_reused_pid_is_no_daemon(directory):
    write_discovery(described(pid_start_ticks=1), directory)
    assert read_discovery(directory) is None


@pytest.mark.parametrize("pid", [2**40, -1])
def test_impossible_pid_is_no_daemon(directory, pid):
    write_discovery(described(pid=pid), directory)
    assert read_discovery(directory) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}', b"\xff\xfe", b"[" * 100_000])
def test_damaged_file_is_no_daemon(directory, content):
    (directory / DISCOVERY_NAME).write_bytes(content)
    assert read_discovery(directory) is None


def test_file_others_can_write_is_refused(directory):
    write_discovery(described(), directory).chmod(0o666)
    with pytest.raises(Forbidden, match="0666"):
        read_discovery(directory)


def test_directory_others_can_write_to_is_refused(directory):
    write_discovery(described(), directory)
    directory.chmod(0o777)
    with pytest.raises(Forbidden):
        read_discovery(directory)


def test_symlink_in_its_place_is_refused(directory, tmp_path):
    target = tmp_path / "elsewhere.json"
    target.write_bytes(msgspec.json.encode(described()))
    (directory / DISCOVERY_NAME).symlink_to(target)
    with pytest.raises(Forbidden):
        read_discovery(directory)


def test_only_the_own_file_is_removed(directory):
    write_discovery(described(instance="successor"), directory)
    remove_discovery("i1", directory)
    assert read_discovery(directory) is not None
    remove_discovery("successor", directory)
    assert read_discovery(directory) is None
    remove_discovery("successor", directory)


def test_failed_write_leaves_nothing_behind(directory, monkeypatch):
    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_discovery(described(), directory)
    assert list(directory.iterdir()) == []


def test_readers_never_see_a_part(directory):
    write_discovery(described(), directory)
    long = tuple(f"tcp://127.0.0.1:{port}" for port in range(1, 2000))
    done = threading.Event()

    def rewrite():
        try:
            for i in range(100):
                write_discovery(described(endpoints=long[: 1 + i * 19]), directory)
        finally:
            done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = 0
    while not done.is_set():
        assert read_discovery(directory) is not None
        seen += 1
    writer.join()
    assert seen

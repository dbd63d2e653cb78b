"""Where circuitd keeps its things, who may reach them, and how endpoints are written."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol import endpoints
from circuit_protocol.endpoints import (
    MAX_IPC_PATH_NBYTES,
    check_exposure,
    check_private_dir,
    default_endpoint,
    ensure_private_dir,
    parse_endpoint,
)
from circuit_protocol.errors import Forbidden, InvalidRequest


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("CIRCUITD_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("function", "own", "xdg", "fallback"),
    [
        ("state_dir", "CIRCUITD_STATE_DIR", "XDG_STATE_HOME", ".local/state/circuitd"),
        ("cache_dir", "CIRCUITD_CACHE_DIR", "XDG_CACHE_HOME", ".cache/circuitd"),
        ("config_dir", "CIRCUITD_CONFIG_DIR", "XDG_CONFIG_HOME", ".config/circuitd"),
        ("data_dir", None, "XDG_DATA_HOME", ".local/share/circuitd"),
        ("runtime_dir", "CIRCUITD_RUNTIME_DIR", "XDG_RUNTIME_DIR", None),
    ],
)
def test_directories_follow_own_variable_then_xdg_then_home(
    monkeypatch, tmp_path, function, own, xdg, fallback
):
    directory = getattr(endpoints, function)
    if fallback is None:
        assert directory().name == f"circuitd-{os.getuid()}"
    else:
        assert directory() == tmp_path / "home" / fallback
    monkeypatch.setenv(xdg, "relative")
    assert directory().is_absolute(), "relative XDG directories are ignored"
    monkeypatch.setenv(xdg, "/xdg")
    assert directory() == Path("/xdg/circuitd")
    if own is not None:
        monkeypatch.setenv(own, "~/mine")
        assert directory() == tmp_path / "home" / "mine"


def test_private_dir_is_made_with_its_parents(tmp_path):
    path = ensure_private_dir(tmp_path / "a" / "b")
    assert mode(path) == 0o700
    assert ensure_private_dir(path) == path


def test_private_dir_is_never_open_not_even_under_a_lax_umask(tmp_path):
    before = os.umask(0)
    try:
        assert mode(ensure_private_dir(tmp_path / "a")) == 0o700
    finally:
        os.umask(before)


def test_readable_directory_is_tightened(tmp_path):
    path = tmp_path / "a"
    path.mkdir(mode=0o755)
    assert mode(ensure_private_dir(path)) == 0o700


def test_writable_directory_is_refused(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(Forbidden, match="others may write"):
        ensure_private_dir(path)
    assert mode(path) == 0o777


def test_symlink_and_file_are_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to("real")
    with pytest.raises(Forbidden, match="symlink"):
        ensure_private_dir(link)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Forbidden, match="no directory"):
        ensure_private_dir(file)


def test_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    path = ensure_private_dir(tmp_path / "a")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Forbidden, match="belongs to user"):
        check_private_dir(path)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ipc:///run/c.sock", "ipc:///run/c.sock"),
        ("/run/c.sock", "ipc:///run/c.sock"),
        ("/run/../run/./c.sock", "ipc:///run/../run/c.sock"),
        ("tcp://Example.org:5555", "tcp://example.org:5555"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://[::1]:5555", "tcp://[::1]:5555"),
    ],
)
def test_endpoints_are_normalised(text, normal):
    assert str(parse_endpoint(text)) == normal
    assert str(parse_endpoint(normal)) == normal


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(parse_endpoint("c.sock")) == f"ipc://{tmp_path}/c.sock"
    assert str(parse_endpoint("ipc://./c.sock")) == f"ipc://{tmp_path}/c.sock"
    assert str(parse_endpoint("~/c.sock")) == f"ipc://{tmp_path}/home/c.sock"


def test_binding_may_leave_host_and_port_open():
    assert str(parse_endpoint("tcp://*:0", bind=True)) == "tcp://*:*"
    assert str(parse_endpoint("tcp://127.0.0.1:*", bind=True)) == "tcp://127.0.0.1:*"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "path of the socket is missing"),
        ("ipc://", "missing"),
        ("ipc://@abstract", "abstract"),
        ("http://host:1", "ipc://PATH"),
        ("tcp://host", "HOST:PORT"),
        ("tcp://host:0", "1 to 65535"),
        ("tcp://host:65536", "1 to 65535"),
        ("tcp://host:http", "1 to 65535"),
        ("tcp://host:٣", "1 to 65535"),
        ("tcp://*:5555", "no host to connect to"),
        ("tcp://::1:5555", "brackets"),
        ("gpu-box:5555", "Did you mean tcp://gpu-box:5555"),
        ("/a\0b", "zero byte"),
    ],
)
def test_what_is_no_endpoint_is_explained(text, hint):
    with pytest.raises(InvalidRequest) as caught:
        parse_endpoint(text)
    assert hint in str(caught.value)


def test_socket_paths_are_limited_in_bytes(monkeypatch):
    parse_endpoint("/" + "a" * (MAX_IPC_PATH_NBYTES - 1))
    with pytest.raises(InvalidRequest, match=r"108 bytes.*CIRCUITD_RUNTIME_DIR"):
        parse_endpoint("/" + "a" * MAX_IPC_PATH_NBYTES)
    with pytest.raises(InvalidRequest, match="too long"):
        parse_endpoint("/" + "é" * 60)
    monkeypatch.setenv("CIRCUITD_RUNTIME_DIR", "/" + "d" * 100)
    with pytest.raises(InvalidRequest, match="too long"):
        default_endpoint()


@given(st.text(max_size=120))
def test_any_text_is_an_endpoint_or_refused(text):
    try:
        endpoint = parse_endpoint(text)
    except InvalidRequest:
        return
    assert str(endpoint).startswith(("ipc:///", "tcp://"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_plain_tcp_is_refused_also_on_loopback_unless_allowed(host):
    endpoint = parse_endpoint(f"tcp://{host}:5555")
    assert endpoint.is_loopback
    with pytest.raises(Forbidden, match="without CURVE"):
        check_exposure(endpoint, curve=False)
    check_exposure(endpoint, curve=False, allow_plain_loopback=True)


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "10.0.0.1", "gpu-box", "[::]"])
def test_plain_tcp_beyond_this_machine_is_always_refused(host):
    endpoint = parse_endpoint(f"tcp://{host}:5555", bind=True)
    with pytest.raises(Forbidden):
        check_exposure(endpoint, curve=False, allow_plain_loopback=True)
    check_exposure(endpoint, curve=True)


def test_ipc_needs_no_keys():
    check_exposure(parse_endpoint("/run/c.sock"), curve=False)

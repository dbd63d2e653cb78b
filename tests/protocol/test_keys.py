"""CURVE keys: secret from birth, refused when exposed, and an allow-list that says who comes in."""

import os
import stat
import tempfile
import threading

import pytest
import zmq

from circuit_protocol import keys
from circuit_protocol.errors import Conflict, Forbidden, InvalidRequest, NotFound
from circuit_protocol.keys import (
    allow_client,
    allowed_clients,
    disallow_client,
    ensure_key_pair,
    fingerprint,
    load_key_pair,
    make_key_pair,
    parse_key,
)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "keys"


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_pair_is_stored_secret_and_public(directory):
    pair = make_key_pair("server", directory)
    assert mode(directory) == 0o700
    assert mode(directory / "server.secret") == 0o600
    assert mode(directory / "server.public") == 0o644
    assert (directory / "server.public").read_text().strip() == pair.public
    assert load_key_pair("server", directory) == pair
    assert sorted(p.name for p in directory.iterdir()) == ["server.public", "server.secret"]


def test_secret_is_never_wider_than_0600_not_even_for_an_instant(directory, monkeypatch):
    seen = []
    real_open, real_link = os.open, os.link

    def watching_open(path, flags, mode=0o777, **kwargs):
        descriptor = real_open(path, flags, mode, **kwargs)
        if flags & os.O_CREAT and "secret" in str(path):
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    def watching_link(source, target):
        seen.append(mode(keys.Path(source)))
        real_link(source, target)

    monkeypatch.setattr(os, "open", watching_open)
    monkeypatch.setattr(tempfile._os, "open", watching_open)
    monkeypatch.setattr(os, "link", watching_link)
    before = os.umask(0)
    try:
        make_key_pair("server", directory)
    finally:
        os.umask(before)
    assert len(seen) >= 2
    assert set(seen) == {0o600}
    assert mode(directory / "server.secret") == 0o600


def test_existing_key_is_replaced_only_on_purpose(directory):
    first = make_key_pair("server", directory)
    with pytest.raises(Conflict):
        make_key_pair("server", directory)
    assert load_key_pair("server", directory) == first
    second = make_key_pair("server", directory, replace=True)
    assert load_key_pair("server", directory) == second != first


def test_racing_processes_get_the_same_key(directory):
    pairs = []
    barrier = threading.Barrier(8)

    def race():
        barrier.wait()
        pairs.append(ensure_key_pair("server", directory))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pairs) == 8
    assert len({pair.secret for pair in pairs}) == 1


def test_missing_key_says_how_to_make_one(directory):
    with pytest.raises(NotFound, match="circuitd keys"):
        load_key_pair("server", directory)


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o644])
def test_exposed_secret_is_refused(directory, wide):
    make_key_pair("server", directory)
    (directory / "server.secret").chmod(wide)
    with pytest.raises(Forbidden, match="no secret"):
        load_key_pair("server", directory)


def test_secret_behind_a_symlink_is_refused(directory):
    make_key_pair("server", directory)
    (directory / "client.secret").symlink_to("server.secret")
    with pytest.raises(Forbidden):
        load_key_pair("client", directory)


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 39, "a" * 41, "é" * 40, " " * 40, '"' * 40, "#" * 40]
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(InvalidRequest, match="no CURVE key"):
        parse_key(text)


def test_keys_may_be_pasted_with_white_space():
    public = zmq.curve_keypair()[0].decode()
    assert parse_key(f"  {public}\n") == public


def test_secret_does_not_show_in_representations(directory):
    pair = make_key_pair("server", directory)
    assert pair.secret not in repr(pair)
    assert pair.public in repr(pair)


def test_fingerprint_tells_keys_apart():
    a, b = (zmq.curve_keypair()[0].decode() for _ in range(2))
    assert fingerprint(a) == fingerprint(f"{a}\n") != fingerprint(b)
    assert [len(group) for group in fingerprint(a).split(":")] == [4] * 8


def test_allow_list_names_clients(directory):
    laptop, desk = (zmq.curve_keypair()[0].decode() for _ in range(2))
    assert allowed_clients(directory) == {}
    allow_client("laptop", laptop, directory)
    allow_client("ada@desk", desk, directory)
    assert allowed_clients(directory) == {laptop: "laptop", desk: "ada@desk"}
    disallow_client("laptop", directory)
    assert allowed_clients(directory) == {desk: "ada@desk"}
    with pytest.raises(NotFound, match="ada@desk"):
        disallow_client("ada@disk", directory)


def test_broken_entry_of_the_allow_list_is_named(directory):
    allow_client("laptop", zmq.curve_keypair()[0].decode(), directory)
    (directory / "allowed" / "broken.public").write_text("oops")
    with pytest.raises(InvalidRequest, match=r"broken\.public"):
        allowed_clients(directory)


@pytest.mark.parametrize("name", ["", "../server", "a/b", ".hidden", "a b", "x" * 101, "a\n"])
def test_names_cannot_leave_the_directory(directory, name):
    with pytest.raises(InvalidRequest, match="no name for a key"):
        make_key_pair(name, directory)

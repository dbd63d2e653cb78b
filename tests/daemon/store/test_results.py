"""The result cache: what is put is found, budgets hold, damage and full disks harm nobody."""

import errno
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from circuitd.store import results
from circuitd.store.reply_file import Damaged, read_reply, write_reply
from circuitd.store.results import ResultCache, StoredReply
from circuitd.work import Segment

KIB = 1024
MIB = 1024 * KIB


def key(n: int) -> str:
    return blake2b(str(n).encode(), digest_size=16).hexdigest()


def reply(nbytes: int = 100, fill: int = 7) -> StoredReply:
    return StoredReply(header=b"header", frames=(bytes([fill]) * (nbytes - 6),))


def content(stored: StoredReply | None) -> tuple[bytes, ...] | None:
    return None if stored is None else (stored.header, *map(bytes, stored.frames))


def open_cache(directory: Path | None, memory: int = MIB, disk: int = MIB, **more) -> ResultCache:
    return ResultCache(directory, memory_nbytes=memory, disk_nbytes=disk, **more)


@pytest.fixture
def cache(tmp_path: Path):
    cache = open_cache(tmp_path / "results")
    yield cache
    cache.close()


async def test_an_answer_is_found_in_memory_then_after_a_restart_on_disk(tmp_path: Path):
    first = open_cache(tmp_path)
    assert await first.get(key(1)) is None
    first.put(key(1), reply(), description="forward")
    assert content(first.peek(key(1))) == content(reply())
    first.close()

    second = open_cache(tmp_path)
    assert second.peek(key(1)) is None
    assert content(await second.get(key(1))) == content(reply())
    assert second.peek(key(1)) is not None  # kept in memory from now on
    assert [(e.key, e.description) for e in second.entries()] == [(key(1), "forward")]
    assert (second.stats().hits, second.stats().misses) == (2, 0)
    second.close()


def test_files_are_private(cache: ResultCache, tmp_path: Path):
    cache.put(key(1), reply())
    cache.flush()
    (file,) = (tmp_path / "results").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("bad", ["../../etc/passwd", "", "ABCDEF0123456789", "short"])
def test_what_is_no_digest_is_no_key(cache: ResultCache, bad: str):
    with pytest.raises(ValueError, match="no cache key"):
        cache.put(bad, reply())


def test_memory_evicts_the_least_recently_used_and_disk_still_has_it(tmp_path: Path):
    cache = open_cache(tmp_path, memory=10 * KIB)
    for n in range(10):
        cache.put(key(n), reply(KIB))
    cache.flush()
    assert cache.peek(key(0)) is not None  # used: now 1 is the oldest
    cache.put(key(10), reply(KIB))
    cache.flush()
    assert cache.peek(key(1)) is None
    assert cache.peek(key(0)) is not None
    assert content(cache.read(key(1))) == content(reply(KIB))
    assert cache.stats().nbytes <= 10 * KIB
    cache.close()


def test_disk_evicts_the_least_recently_used_also_across_restarts(tmp_path: Path):
    cache = open_cache(tmp_path, memory=0, disk=8 * KIB)
    for n in range(4):
        cache.put(key(n), reply(KIB))
    cache.flush()
    for n in range(4):  # the clock of a file system is coarse
        os.utime(tmp_path / f"{key(n)}.reply", (1000 + n, 1000 + n))
    assert cache.read(key(0)) is not None
    cache.close()

    again = open_cache(tmp_path, memory=0, disk=8 * KIB)
    for n in range(10, 14):
        again.put(key(n), reply(KIB))
    again.flush()
    assert again.read(key(0)) is not None
    assert again.read(key(1)) is None
    assert again.stats().disk_nbytes <= 8 * KIB
    assert again.stats().disk_nbytes == sum(f.stat().st_size for f in tmp_path.iterdir())
    again.close()


def test_pinned_entries_outlive_eviction_clearing_and_restarts(tmp_path: Path):
    cache = open_cache(tmp_path, memory=4 * KIB, disk=8 * KIB)
    cache.put(key(0), reply(KIB))
    cache.flush()
    assert cache.pin(key(0))
    assert not cache.pin(key(99))
    for n in range(1, 20):
        cache.put(key(n), reply(KIB))
    cache.flush()
    assert cache.peek(key(0)) is not None
    cache.close()

    again = open_cache(tmp_path, memory=4 * KIB, disk=8 * KIB)
    again.clear()
    assert [(e.key, e.pinned) for e in again.entries()] == [(key(0), True)]
    assert again.read(key(0)) is not None
    assert again.pin(key(0), pinned=False)
    assert again.clear()[0] == 1
    assert list(tmp_path.iterdir()) == []
    again.close()


def test_pinned_while_it_is_being_written_is_pinned_on_disk(tmp_path: Path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow_write(*args):
        begun.set()
        go_on.wait(10)
        return write_reply(*args)

    monkeypatch.setattr(results, "write_reply", slow_write)
    cache = open_cache(tmp_path)
    cache.put(key(0), reply())
    cache.put(key(1), reply())
    begun.wait(10)
    cache.pin(key(0))
    cache.evict(key(1))
    go_on.set()
    cache.close()
    assert [file.name for file in tmp_path.iterdir()] == [f"{key(0)}.pinned"]


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_damage_to_a_file_is_noticed(tmp_path_factory, at: int, bit: int, cut: bool):
    path = tmp_path_factory.mktemp("damage") / "x.reply"
    write_reply(path, key(0), b"header", [b"frame one", b"", b"three"], "about")
    data = bytearray(path.read_bytes())
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(Damaged):
        read_reply(path, key(0))


def test_a_damaged_file_is_dropped_and_counts_as_a_miss(tmp_path: Path, caplog):
    cache = open_cache(tmp_path)
    cache.put(key(0), reply(), description="x")
    cache.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    again = open_cache(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert again.read(key(0)) is None
    assert "checksum" in caplog.text
    assert not file.exists()
    assert (again.stats().entries, again.stats().misses, again.stats().disk_nbytes) == (0, 1, 0)
    again.put(key(0), reply())  # recomputed
    again.flush()
    assert file.exists()
    again.close()


def test_a_file_under_another_key_is_not_believed(tmp_path: Path):
    cache = open_cache(tmp_path)
    cache.put(key(0), reply())
    cache.close()
    (tmp_path / f"{key(0)}.reply").rename(tmp_path / f"{key(1)}.reply")
    again = open_cache(tmp_path)
    assert again.read(key(1)) is None
    again.close()


def test_a_full_disk_pauses_the_disk_tier_and_no_request_fails(tmp_path, monkeypatch, caplog):
    writes = []

    def full(*args):
        writes.append(args)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results, "write_reply", full)
    cache = open_cache(tmp_path)
    with caplog.at_level(logging.WARNING):
        cache.put(key(0), reply())
        cache.flush()
        cache.put(key(1), reply())
        cache.flush()
    assert len(writes) == 1  # the disk is left alone
    assert caplog.text.count("No space left") == 1
    assert cache.peek(key(0)) is not None
    assert cache.peek(key(1)) is not None

    monkeypatch.setattr(results, "write_reply", write_reply)
    now = time.monotonic()
    monkeypatch.setattr(results.time, "monotonic", lambda: now + 3600)
    cache.put(key(2), reply())  # room again
    cache.flush()
    assert [file.name for file in tmp_path.iterdir()] == [f"{key(2)}.reply"]
    cache.close()


def test_a_write_that_fails_half_way_leaves_no_file(tmp_path: Path):
    program = (
        "import resource, sys; from pathlib import Path;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from circuitd.store.results import *;"
        "c = ResultCache(Path(sys.argv[1]), memory_nbytes=1<<20, disk_nbytes=1<<20);"
        "c.put('0' * 32, StoredReply(header=b'h', frames=(bytes(100000),))); c.flush();"
        "print(c.peek('0' * 32) is not None); c.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_leaves_memory_only(tmp_path: Path, caplog):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        cache = open_cache(tmp_path / "file" / "results")
    assert "in memory only" in caplog.text
    cache.put(key(0), reply())
    assert cache.read(key(0)) is not None
    assert cache.read(key(1)) is None
    cache.close()


def test_a_file_somebody_else_removed_is_a_miss(cache: ResultCache, tmp_path: Path):
    small = open_cache(tmp_path / "results", memory=0)
    small.put(key(0), reply())
    small.flush()
    (tmp_path / "results" / f"{key(0)}.reply").unlink()
    assert small.read(key(0)) is None
    assert small.stats().entries == 0
    small.close()


def test_answers_with_held_tensors_stay_off_the_disk_and_give_them_back(tmp_path: Path):
    released: list[str] = []
    cache = open_cache(
        tmp_path, memory=4 * KIB, on_release=lambda held: released.extend(s.handle for s in held)
    )
    segment = Segment(handle="t-1", file="t-1", dtype="F32", shape=(2,), nbytes=8)
    other = Segment(handle="t-2", file="t-2", dtype="F32", shape=(2,), nbytes=8)
    cache.put(key(0), StoredReply(header=b"h", segments=(segment,)))
    cache.put(key(1), StoredReply(header=b"h", segments=(other,)))
    cache.flush()
    assert list(tmp_path.iterdir()) == []
    assert cache.forget_segments(["t-1", "t-9"]) == 1
    assert released == ["t-1"]
    for n in range(2, 10):
        cache.put(key(n), reply(KIB))
    assert released == ["t-1", "t-2"]  # evicted
    cache.close()


def test_an_answer_larger_than_a_quarter_of_a_tier_stays_out_of_it(tmp_path: Path):
    cache = open_cache(tmp_path, memory=4 * KIB, disk=64 * KIB)
    cache.put(key(0), reply(2 * KIB))
    cache.put(key(1), reply(32 * KIB))
    cache.flush()
    assert cache.peek(key(0)) is None
    assert cache.read(key(0)) is not None
    assert cache.read(key(1)) is None
    assert cache.stats().entries == 1
    cache.close()


WRITER = """
import os, sys
from pathlib import Path
from circuitd.store.results import ResultCache, StoredReply
cache = ResultCache(Path(sys.argv[1]), memory_nbytes=0, disk_nbytes=1 << 30)
print("up", flush=True)
n = 0
while True:
    cache.put(f"{n:032x}", StoredReply(header=b"h", frames=(bytes([n % 256]) * 200_000,)))
    cache.flush()
    n += 1
    os.write(1, b".")
"""


def test_a_writer_killed_at_any_point_leaves_only_whole_answers(tmp_path: Path):
    for progress in (1, 4, 9):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            child.stdout.read(progress)
            child.kill()
        cache = open_cache(tmp_path, memory=0, disk=1 << 30)
        entries = cache.entries(1000)
        assert len(entries) >= progress
        for entry in entries:
            stored = cache.read(entry.key)
            assert stored is not None
            fill = bytes([int(entry.key, 16) % 256])
            assert bytes(stored.frames[0]) == fill * 200_000
        cache.close()


def test_temporary_files_of_dead_writers_are_removed_but_not_those_of_living_ones(tmp_path: Path):
    old, new = tmp_path / ".writing-old", tmp_path / ".writing-new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    open_cache(tmp_path).close()
    assert list(tmp_path.iterdir()) == [new]


def test_ten_thousand_entries_are_indexed_quickly(tmp_path: Path):
    for n in range(10_000):
        (tmp_path / f"{n:032x}.reply").write_bytes(b"12345")
    began = time.thread_time()
    cache = open_cache(tmp_path)
    took_s = time.thread_time() - began
    assert cache.stats().entries == 10_000
    assert cache.stats().disk_nbytes == 50_000
    assert took_s < 1.0  # about 0.05 s of processor time on an idle machine
    cache.close()


def test_threads_that_ask_and_put_at_once_get_right_answers(tmp_path: Path):
    cache = open_cache(tmp_path, memory=20 * KIB, disk=100 * KIB)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(150):
            n = (i * 7 + seed) % 40
            stored = cache.read(key(n))
            if stored is None:
                cache.put(key(n), reply(KIB, fill=n))
            elif content(stored) != content(reply(KIB, fill=n)):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.flush()
    assert wrong == []
    assert cache.stats().nbytes <= 20 * KIB
    assert cache.stats().disk_nbytes == sum(f.stat().st_size for f in tmp_path.iterdir())
    cache.close()


class CacheMachine(RuleBasedStateMachine):
    """Whatever is done, the cache answers right or not at all, and its sums are true."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = open_cache(None, memory=2 * KIB, disk=0)
        self.put_so_far: set[int] = set()
        self.pinned: set[int] = set()

    def teardown(self) -> None:
        self.cache.close()

    numbers = st.integers(0, 12)

    @rule(n=numbers, nbytes=st.integers(10, 400))
    def put(self, n: int, nbytes: int) -> None:
        if n not in self.put_so_far:
            self.cache.put(key(n), reply(nbytes, fill=n))
            self.put_so_far.add(n)

    @rule(n=numbers)
    def ask(self, n: int) -> None:
        stored = self.cache.peek(key(n))
        if stored is not None:
            assert n in self.put_so_far
            assert bytes(stored.frames[0]).count(n) == len(stored.frames[0])

    @rule(n=numbers, pinned=st.booleans())
    def pin(self, n: int, pinned: bool) -> None:
        if self.cache.pin(key(n), pinned):
            (self.pinned.add if pinned else self.pinned.discard)(n)

    @rule(n=numbers)
    def evict(self, n: int) -> None:
        self.cache.evict(key(n))
        self.pinned.discard(n)
        self.put_so_far.discard(n)

    @rule()
    def clear(self) -> None:
        self.cache.clear()

    @invariant()
    def sums_are_true(self) -> None:
        entries = self.cache.entries(1000)
        assert self.cache.stats().nbytes == sum(e.nbytes for e in entries)
        pinned = {e.key for e in entries if e.pinned}
        assert pinned == {key(n) for n in self.pinned}
        if self.cache.stats().nbytes > 2 * KIB:
            assert all(e.pinned for e in entries)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

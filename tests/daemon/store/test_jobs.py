"""Job records: what was accepted is there after any death, and states only move forward."""

import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from circuit_protocol.errors import Conflict, ErrorInfo, NotFound, StorageFull, Unavailable
from circuitd.store import jobs
from circuitd.store.job_thread import JobThread
from circuitd.store.jobs import JobStore, StoredMessage


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore(tmp_path)
    yield store
    store.close()


def test_a_job_keeps_its_request_and_in_the_end_its_reply(store: JobStore):
    info = store.accept("ablate", b"header", [b"one", b"", memoryview(b"three")], "every node")
    assert (info.state, info.request_type, info.description) == ("queued", "ablate", "every node")
    assert store.request(info.job) == StoredMessage(
        header=b"header", frames=(b"one", b"", b"three")
    )
    assert store.reply(info.job) is None

    store.start(info.job)
    store.progress(info.job, 3, 10)
    assert (store.get(info.job).state, store.get(info.job).done) == ("running", 3)
    assert store.finish(info.job, "done", b"reply", [b"losses"])
    after = store.get(info.job)
    assert (after.state, after.done, after.total) == ("done", 10, 10)
    assert after.finished_at_s is not None
    assert after.finished_at_s >= after.created_at_s
    assert store.reply(info.job) == StoredMessage(header=b"reply", frames=(b"losses",))


def test_a_failed_job_keeps_its_error(store: JobStore):
    job = store.accept("ablate", b"h").job
    error = ErrorInfo(code="bad_tokens", message="no tokens", nearest=("a", "b"))
    store.finish(job, "failed", b"reply", error=error)
    assert store.get(job).error == error


def test_a_finished_job_stays_as_it_is(store: JobStore):
    job = store.accept("ablate", b"h").job
    assert store.finish(job, "cancelled", b"first")
    assert not store.finish(job, "done", b"second")
    store.progress(job, 5, 5)
    for change in (store.start, store.requeue):
        with pytest.raises(Conflict):
            change(job)
    assert store.reply(job) == StoredMessage(header=b"first")
    assert (store.get(job).state, store.get(job).done) == ("cancelled", 0)


def test_an_unknown_job_is_not_found_with_the_nearest(store: JobStore):
    job = store.accept("ablate", b"h").job
    for ask in (store.get, store.request, store.reply, store.start):
        with pytest.raises(NotFound, match=job):
            ask(job[:-1] + "x")


def test_jobs_are_listed_newest_first(store: JobStore):
    ids = [store.accept("ablate", b"h").job for _ in range(4)]
    store.finish(ids[1], "done", b"r")
    assert [info.job for info in store.newest()] == ids[::-1]
    assert [info.job for info in store.newest(2)] == [ids[3], ids[2]]
    assert [i.job for i in store.newest(unfinished_only=True)] == [ids[3], ids[2], ids[0]]
    assert store.unfinished() == 3


def test_recovery_requeues_what_was_running_and_counts_it(tmp_path: Path):
    store = JobStore(tmp_path)
    waiting, running, done = (store.accept("prune", b"h", [b"f"]).job for _ in range(3))
    store.start(running)
    store.start(done)
    (store.checkpoint_dir(running) / "step").write_text("12")
    store.finish(done, "done", b"r")
    store.close()

    again = JobStore(tmp_path)
    (tmp_path / "jobs" / "j-orphan").mkdir()
    recovered = again.recover()
    assert [(r.info.job, r.info.state, r.info.resumes) for r in recovered] == [
        (waiting, "queued", 0),
        (running, "queued", 1),
    ]
    assert recovered[1].request == StoredMessage(header=b"h", frames=(b"f",))
    assert (recovered[1].checkpoint_dir / "step").read_text() == "12"
    assert recovered[0].checkpoint_dir.is_dir()
    assert not (tmp_path / "jobs" / "j-orphan").exists()
    again.close()


def test_checkpoints_are_private_and_go_with_the_end_of_their_job(store: JobStore, tmp_path: Path):
    job = store.accept("prune", b"h").job
    directory = store.checkpoint_dir(job)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "jobs.sqlite").stat().st_mode) == 0o600
    (directory / "state").write_bytes(b"x")
    store.finish(job, "done", b"r")
    assert not directory.exists()


def test_a_lost_worker_sends_its_job_back_to_the_queue(store: JobStore):
    job = store.accept("prune", b"h").job
    store.start(job)
    store.requeue(job)
    assert (store.get(job).state, store.get(job).resumes) == ("queued", 1)


def test_pruning_forgets_the_oldest_finished_jobs_by_number_and_by_bytes(store: JobStore):
    ids = [store.accept("ablate", b"h" * 100).job for _ in range(6)]
    for job in ids[:5]:
        store.finish(job, "done", b"r" * 900)
    assert store.prune(keep=4, keep_nbytes=10**9) == [ids[0]]
    assert set(store.prune(keep=100, keep_nbytes=2500)) == {ids[1], ids[2]}
    assert [info.job for info in store.newest()] == [ids[5], ids[4], ids[3]]
    assert store.prune(keep=0, keep_nbytes=0) == [ids[4], ids[3]]
    assert store.unfinished() == 1


def test_progress_is_not_written_at_every_step(store: JobStore, monkeypatch):
    job = store.accept("prune", b"h").job
    now = [100.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    for done in range(50):
        now[0] += 0.125
        store.progress(job, done, 50)
    assert store.get(job).done == 48  # written at 0, 16, 32 and 48: each two seconds


def test_two_daemons_cannot_keep_jobs_in_one_directory(store: JobStore, tmp_path: Path):
    with pytest.raises(Conflict, match="CIRCUITD_STATE_DIR"):
        JobStore(tmp_path)


def test_a_damaged_database_is_put_aside_and_work_goes_on(tmp_path: Path, caplog):
    (tmp_path / "jobs.sqlite").write_bytes(b"this is no database" * 100)
    store = JobStore(tmp_path)
    assert "damaged" in caplog.text
    assert store.newest() == []
    store.accept("ablate", b"h")
    assert len(list(tmp_path.glob("jobs.damaged-*.sqlite"))) == 1
    store.close()


def test_records_of_a_newer_version_are_refused_untouched(tmp_path: Path):
    JobStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unavailable, match="newer"):
        JobStore(tmp_path)
    assert list(tmp_path.glob("*damaged*")) == []


FILL = """
import resource, sys
from pathlib import Path
from circuit_protocol.errors import StorageFull
from circuitd.store.jobs import JobStore
store = JobStore(Path(sys.argv[1]))
kept = store.accept("ablate", b"h", [b"small"]).job
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited))
try:
    store.accept("ablate", b"h", [bytes(1 << 20)])
except StorageFull as error:
    print(error.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
print([info.job == kept for info in store.newest()])
store.finish(kept, "done", b"r")
print(store.get(kept).state)
"""


def test_on_a_full_disk_a_job_is_refused_and_the_others_are_untouched(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[:3] == ["storage_full", "[True]", "done"], done.stderr
    assert len(list((tmp_path / "jobs").iterdir())) == 0


def test_a_checkpoint_directory_that_cannot_be_made_is_storage_full(store: JobStore, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageFull):
        store.accept("prune", b"h")
    assert store.newest() == []


WRITER = """
import os, sys
from pathlib import Path
from circuitd.store.jobs import JobStore
store = JobStore(Path(sys.argv[1]))
while True:
    job = store.accept("prune", b"header", [bytes(50_000)]).job
    os.write(1, f"accepted {job}\\n".encode())
    store.start(job)
    store.finish(job, "done", b"reply", [bytes(50_000)])
    os.write(1, f"finished {job}\\n".encode())
"""


@pytest.mark.parametrize("lines", [1, 2, 9, 14])
def test_a_writer_killed_at_any_point_loses_nothing_it_had_promised(tmp_path: Path, lines: int):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        said = [child.stdout.readline().split() for _ in range(lines)]
        child.kill()
        said += [line.split() for line in child.stdout.read().splitlines()]
    store = JobStore(tmp_path)
    for what, job in said:
        if what == b"accepted":
            assert len(store.request(job.decode()).frames[0]) == 50_000
        else:
            assert store.reply(job.decode()) == StoredMessage(
                header=b"reply", frames=(bytes(50_000),)
            )
    assert len(store.recover()) <= 1
    store.close()


async def test_the_awaitable_records_do_the_same(tmp_path: Path):
    thread = await JobThread.open(tmp_path)
    info = await thread.accept("ablate", b"h", [b"f"], "d")
    await thread.start(info.job)
    await thread.progress(info.job, 1, 2)
    assert (await thread.get(info.job)).done == 1
    assert thread.checkpoint_dir(info.job).is_dir()
    await thread.requeue(info.job)
    assert [r.info.job for r in await thread.recover()] == [info.job]
    assert (await thread.request(info.job)).frames == (b"f",)
    assert await thread.reply(info.job) is None
    assert await thread.unfinished() == 1
    assert await thread.finish(info.job, "done", b"r")
    assert await thread.reply(info.job) == StoredMessage(header=b"r")
    assert [i.job for i in await thread.newest(unfinished_only=True)] == []
    assert await thread.prune(0, 0) == [info.job]
    with pytest.raises(NotFound):
        await thread.get(info.job)
    await thread.close()
    first = JobStore(tmp_path)
    with pytest.raises(Conflict):  # an error of opening arrives, too, and ends its thread
        await JobThread.open(tmp_path)
    first.close()


class JobMachine(RuleBasedStateMachine):
    """Against a model in a dict: states, resumes and replies, through restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = JobStore(Path(self.directory.name))
        self.model: dict[str, tuple[str, int]] = {}

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    def _pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.model)))

    @rule()
    def accept(self) -> None:
        self.model[self.store.accept("prune", b"h").job] = ("queued", 0)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), move=st.sampled_from(["start", "requeue"]))
    def move(self, data: st.DataObject, move: str) -> None:
        job = self._pick(data)
        state, resumes = self.model[job]
        if state in ("queued", "running"):
            getattr(self.store, move)(job)
            is_start = move == "start"
            self.model[job] = ("running", resumes) if is_start else ("queued", resumes + 1)
        else:
            with pytest.raises(Conflict):
                getattr(self.store, move)(job)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), state=st.sampled_from(["done", "failed", "cancelled"]))
    def finish(self, data: st.DataObject, state) -> None:
        job = self._pick(data)
        before, resumes = self.model[job]
        is_first = before in ("queued", "running")
        assert self.store.finish(job, state, b"r") == is_first
        if is_first:
            self.model[job] = (state, resumes)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = JobStore(Path(self.directory.name))
        recovered = {r.info.job for r in self.store.recover()}
        assert recovered == {j for j, (s, _) in self.model.items() if s in ("queued", "running")}
        for job, (state, resumes) in self.model.items():
            if state == "running":
                self.model[job] = ("queued", resumes + 1)

    @invariant()
    def records_are_as_expected(self) -> None:
        found = {i.job: (i.state, i.resumes) for i in self.store.newest(1000)}
        assert found == self.model


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)

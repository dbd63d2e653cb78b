"""Job records in SQLite: a job that was accepted is on disk, whatever happens to the daemon next.

A record holds the request as it came (header and frames), how far it is, and in the end the very
reply of its request; beside the database each job has a checkpoint directory, where the worker
keeps what it needs to go on. `recover` at start gives back the unfinished ones, oldest first.

    queued -> running -> done | failed | cancelled
       ^---------'  (its worker died, or the daemon)

Every call blocks for a disk write (milliseconds, one fsync): the front calls through
`circuitd.store.job_thread`. One daemon owns a state directory, by a lock beside the database.
"""

import errno
import logging
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from circuit_protocol.errors import (
    Conflict,
    ErrorInfo,
    NotFound,
    StorageFull,
    TooLarge,
)
from circuit_protocol.replies import JobInfo
from circuitd.store.job_database import open_database, translated
from circuitd.store.locks import LockHeld, OwnerLock

log = logging.getLogger(__name__)

FinalState = Literal["done", "failed", "cancelled"]
Buffer = bytes | bytearray | memoryview

_COLUMNS: Final = (
    "job, request_type, description, state, created_at_s, finished_at_s, done, total, error,"
    " resumes"
)
#: SQLite's own default limit of one value.
_MAX_PART_NBYTES: Final = 1_000_000_000
#: Progress nobody would miss after a crash is not written more often than this.
_PROGRESS_INTERVAL_S: Final = 2.0


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it travelled: frame 0 and the frames after it."""

    header: bytes
    frames: tuple[bytes, ...] = ()


class UnfinishedJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to queue a job again."""

    info: JobInfo
    request: StoredMessage
    checkpoint_dir: Path


class JobStore:
    """The job records under `state_dir`. For one thread."""

    def __init__(self, state_dir: Path) -> None:
        """Open the records, making them if there are none.

        A database that is damaged is put aside under another name and a new one begun; the log
        says so. Raises Conflict if another daemon uses `state_dir`, Unavailable if a newer version
        wrote it, StorageFull if it cannot be made.
        """
        self._checkpoints = state_dir / "jobs"
        try:
            self._checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = OwnerLock(state_dir / "jobs.lock")
        except LockHeld as error:
            raise Conflict(
                "another daemon keeps its jobs in this state directory",
                asked=str(state_dir),
                found=f"process {error.pid}",
                hint="Stop it, or give this one its own CIRCUITD_STATE_DIR",
            ) from None
        except OSError as error:
            raise StorageFull(
                "the job records cannot be made", asked=str(state_dir), found=error.strerror
            ) from error
        self._path = state_dir / "jobs.sqlite"
        self._progress_written_at_s: dict[str, float] = {}
        try:
            self._db = open_database(self._path)
        except BaseException:
            self._lock.release()
            raise

    # --------------------------------------------------------------------------- a job's life

    def accept(
        self,
        request_type: str,
        header: Buffer,
        frames: Sequence[Buffer] = (),
        description: str = "",
    ) -> JobInfo:
        """Record a new job. When this returns, the job survives a power cut.

        Raises TooLarge for a frame beyond what a record can hold, StorageFull without room.
        """
        job = f"j-{secrets.token_hex(6)}"
        parts = [header, *frames]
        try:
            with self._write() as db:
                number = db.execute(
                    "INSERT INTO jobs (job, request_type, description, state, created_at_s, nbytes)"
                    " VALUES (?, ?, ?, 'queued', ?, ?)",
                    (job, request_type, description, time.time(), _nbytes(parts)),
                ).lastrowid
                _insert_parts(db, number, "request", parts)
                self.checkpoint_dir(job).mkdir(mode=0o700)
        except BaseException:
            self._remove_checkpoint(job)
            raise
        return self.get(job)

    def start(self, job: str) -> None:
        """A worker has begun with it."""
        self._change(job, "state = 'running'")

    def requeue(self, job: str) -> None:
        """Its worker was lost: it waits again, and will resume from its checkpoint."""
        self._change(job, "state = 'queued', resumes = resumes + 1")

    def progress(self, job: str, done: float, total: float | None = None) -> None:
        """How far it is; kept at most every two seconds. Does nothing for a finished job."""
        now = time.monotonic()
        if now - self._progress_written_at_s.get(job, -_PROGRESS_INTERVAL_S) < _PROGRESS_INTERVAL_S:
            return
        self._progress_written_at_s[job] = now
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET done = ?, total = ? WHERE job = ? AND finished_at_s IS NULL",
                (done, total, job),
            )

    def finish(
        self,
        job: str,
        state: FinalState,
        header: Buffer,
        frames: Sequence[Buffer] = (),
        error: ErrorInfo | None = None,
    ) -> bool:
        """Record the final reply; False if the job was finished already. Raises like `accept`."""
        parts = [header, *frames]
        with self._write() as db:
            number = self._number(job)
            changed = db.execute(
                "UPDATE jobs SET state = ?, finished_at_s = ?, error = ?, nbytes = nbytes + ?,"
                " done = CASE WHEN ? = 'done' AND total IS NOT NULL THEN total ELSE done END"
                " WHERE number = ? AND finished_at_s IS NULL",
                (
                    state,
                    time.time(),
                    msgspec.msgpack.encode(error) if error is not None else None,
                    _nbytes(parts),
                    state,
                    number,
                ),
            ).rowcount
            if changed:
                _insert_parts(db, number, "reply", parts)
        self._progress_written_at_s.pop(job, None)
        if changed:
            self._remove_checkpoint(job)
        return bool(changed)

    def recover(self) -> list[UnfinishedJob]:
        """The jobs that are not finished, oldest first, all queued again; call once, at start.

        Those that were running count one more resume. Checkpoints of unknown jobs are removed.
        """
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = 'queued', resumes = resumes + 1 WHERE state = 'running'"
            )
        unfinished = self._select("WHERE finished_at_s IS NULL ORDER BY number")
        known = {info.job for info in unfinished}
        for directory in self._checkpoints.iterdir():
            if directory.name not in known:
                self._remove_checkpoint(directory.name)
        for job in known:
            self.checkpoint_dir(job).mkdir(mode=0o700, exist_ok=True)
        return [
            UnfinishedJob(
                info=info,
                request=self._message(info.job, "request"),
                checkpoint_dir=self.checkpoint_dir(info.job),
            )
            for info in unfinished
        ]

    # ----------------------------------------------------------------------------- questions

    def get(self, job: str) -> JobInfo:
        """One job's record. Raises NotFound."""
        found = self._select("WHERE job = ?", job)
        if not found:
            raise self._unknown(job)
        return found[0]

    def newest(self, limit: int = 100, *, unfinished_only: bool = False) -> list[JobInfo]:
        """Jobs, newest first."""
        where = "WHERE finished_at_s IS NULL" if unfinished_only else ""
        return self._select(f"{where} ORDER BY number DESC LIMIT ?", limit)

    def request(self, job: str) -> StoredMessage:
        """The request as it came. Raises NotFound."""
        return self._message(job, "request")

    def reply(self, job: str) -> StoredMessage | None:
        """The final reply; None while the job is unfinished. Raises NotFound."""
        if self.get(job).finished_at_s is None:
            return None
        return self._message(job, "reply")

    def unfinished(self) -> int:
        """How many jobs are not finished."""
        with self._translate():
            (n,) = self._db.execute(
                "SELECT count(*) FROM jobs WHERE finished_at_s IS NULL"
            ).fetchone()
        return n

    def checkpoint_dir(self, job: str) -> Path:
        """Where the worker keeps what it needs to resume. Removed when the job is finished."""
        return self._checkpoints / job

    # --------------------------------------------------------------------------- housekeeping

    def prune(self, keep: int, keep_nbytes: int) -> list[str]:
        """Forget the oldest finished jobs beyond `keep` jobs or `keep_nbytes` bytes; which."""
        with self._write() as db:
            finished = db.execute(
                "SELECT number, job, nbytes FROM jobs WHERE finished_at_s IS NOT NULL"
                " ORDER BY finished_at_s DESC, number DESC"
            ).fetchall()
            total_nbytes, forgotten = 0, []
            for kept, (number, job, nbytes) in enumerate(finished):
                total_nbytes += nbytes
                if kept >= keep or total_nbytes > keep_nbytes:
                    db.execute("DELETE FROM jobs WHERE number = ?", (number,))
                    forgotten.append(job)
        if forgotten:
            with self._translate():
                self._db.execute("PRAGMA incremental_vacuum")
        return forgotten

    def close(self) -> None:
        """Close the records and let another daemon have them."""
        self._db.close()
        self._lock.release()

    # ------------------------------------------------------------------------------- SQLite

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction, on disk when the block has ended."""
        with self._translate():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _translate(self) -> Iterator[None]:
        """SQLite's errors as ours; nothing of a failed transaction stays."""
        try:
            yield
        except sqlite3.DataError as error:
            raise TooLarge("a frame is too large for a job's record", found=str(error)) from error
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise translated(error, self._path) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageFull("there is no room for a job's files", found=str(error)) from error

    def _change(self, job: str, assignments: str) -> None:
        with self._write() as db:
            changed = db.execute(
                f"UPDATE jobs SET {assignments} WHERE job = ? AND finished_at_s IS NULL", (job,)
            ).rowcount
            if not changed:
                self._number(job)
                raise Conflict("this job is finished", asked=job)

    def _select(self, rest: str, *values: Any) -> list[JobInfo]:
        with self._translate():
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM jobs {rest}", values).fetchall()
        return [_job_info(row) for row in rows]

    def _message(self, job: str, side: str) -> StoredMessage:
        with self._translate():
            rows = self._db.execute(
                "SELECT data FROM parts WHERE number = ? AND side = ? ORDER BY position",
                (self._number(job), side),
            ).fetchall()
        header, *frames = (data for (data,) in rows)
        return StoredMessage(header=header, frames=tuple(frames))

    def _number(self, job: str) -> int:
        row = self._db.execute("SELECT number FROM jobs WHERE job = ?", (job,)).fetchone()
        if row is None:
            raise self._unknown(job)
        return row[0]

    def _unknown(self, job: str) -> NotFound:
        return NotFound.unknown("job", job, (info.job for info in self.newest(50)))

    def _remove_checkpoint(self, job: str) -> None:
        try:
            shutil.rmtree(self.checkpoint_dir(job))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("the checkpoint of job %s stays on disk: %s", job, error)


def _insert_parts(
    db: sqlite3.Connection, number: int | None, side: str, parts: Sequence[Buffer]
) -> None:
    for part in parts:
        if memoryview(part).nbytes > _MAX_PART_NBYTES:
            raise TooLarge(
                "a frame is too large for a job's record",
                asked=f"{memoryview(part).nbytes} bytes",
                hint=f"The limit is {_MAX_PART_NBYTES} bytes",
            )
    db.executemany(
        "INSERT INTO parts (number, side, position, data) VALUES (?, ?, ?, ?)",
        ((number, side, position, part) for position, part in enumerate(parts)),
    )


def _job_info(row: Sequence[Any]) -> JobInfo:
    job, request_type, description, state, created, finished, done, total, error, resumes = row
    return JobInfo(
        job=job,
        request_type=request_type,
        description=description,
        state=state,
        created_at_s=created,
        finished_at_s=finished,
        done=done,
        total=total,
        error=None if error is None else msgspec.msgpack.decode(error, type=ErrorInfo),
        resumes=resumes,
    )


def _nbytes(parts: Sequence[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in parts)

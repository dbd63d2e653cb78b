"""The SQLite file of the job records: its schema, how it is opened, what its errors mean.

A file that is damaged is put aside and a new one begun: lost records are better than a daemon that
does not start. A file of a newer version is left alone.
"""

import logging
import sqlite3
import time
from pathlib import Path
from typing import Final

from circuit_protocol.errors import InternalError, StorageFull, Unavailable

log = logging.getLogger(__name__)

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL UNIQUE,
    request_type TEXT NOT NULL,
    description TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    created_at_s REAL NOT NULL,
    finished_at_s REAL,
    done REAL NOT NULL DEFAULT 0,
    total REAL,
    error BLOB,
    resumes INTEGER NOT NULL DEFAULT 0,
    nbytes INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE parts (
    number INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    side TEXT NOT NULL CHECK (side IN ('request', 'reply')),
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (number, side, position)
) STRICT;
"""
_FULL: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC"})


def open_database(path: Path) -> sqlite3.Connection:
    """The records in `path`, made if there are none.

    Raises Unavailable for those of a newer version, StorageFull if they cannot be written.
    """
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and _code(error) != "SQLITE_CORRUPT":
            raise translated(error, path) from error
        aside = path.with_name(f"jobs.damaged-{int(time.time())}.sqlite")
        log.error("%s is damaged (%s): kept as %s", path, error, aside.name)
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    # The thread that opens may not be the one that works: job_thread makes sure it is one.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise Unavailable(
                "a newer circuitd wrote the job records",
                asked=f"schema {_SCHEMA_VERSION}",
                found=f"schema {version} in {path}",
                hint="Use that version, or move the file away",
            )
        if version == 0:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk, not only in the kernel, before the client is told.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        if (check := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(check)
    except BaseException:
        db.close()
        raise
    return db


def translated(error: sqlite3.Error, path: Path) -> StorageFull | InternalError:
    """SQLite's error as ours: no room or no permission, else a defect."""
    if _code(error) in _FULL or _code(error).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return StorageFull(
            "the job records cannot be written",
            asked=str(path),
            found=str(error),
            hint="Free some room there, or set CIRCUITD_STATE_DIR",
        )
    return InternalError("the job records failed", asked=str(path), found=str(error))


def _code(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""

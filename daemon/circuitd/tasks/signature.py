"""What tells one definition of a task from another: of a built-in nothing, of a file its bytes.

A built-in task changes only with the program, whose version stands beside every result.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from circuitd.tasks.errors import TaskError
from circuitd.tasks.task import Task

_N_DIGITS = 16


def task_signature(task: Task) -> str:
    """Empty for a built-in task, else 16 hexadecimal digits of its file's SHA-256.

    Raises TaskError if the file cannot be read any more.
    """
    if task.source == "built-in":
        return ""
    try:
        with Path(task.source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_N_DIGITS]
    except OSError as error:
        raise TaskError(f"cannot be read: {error.strerror}", path=task.source) from error

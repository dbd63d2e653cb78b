"""The twenty tasks of Table 1 of arXiv 2511.13653, as templates of our own."""

from __future__ import annotations

from . import blocks, naming, quoting
from .spec import TaskSpec

BUILT_IN: dict[str, TaskSpec] = {
    spec.name: spec for spec in (*quoting.TASKS, *naming.TASKS, *blocks.TASKS)
}

__all__ = ["BUILT_IN", "TaskSpec"]

"""Where users' task files lie, and what changes when one of them changes."""

from __future__ import annotations

from pathlib import Path

from circuitd.settings import Settings
from circuitd.store.roots import artefact_roots


def task_directories(settings: Settings) -> tuple[Path, ...]:
    """Where task files are looked for: the user's configuration, then each artefact root."""
    roots = artefact_roots(settings.data_roots)
    return (Path(settings.config_dir) / "tasks", *(root / "tasks" for root in roots))


class TaskFiles:
    """The state of users' task files, which is part of the question an answer is cached for."""

    def __init__(self, directories: tuple[Path, ...]) -> None:
        self._directories = directories

    def signature(self, task: str) -> str:
        """Changes when the file of a task changes; "*" means all tasks."""
        name = task if task != "*" and "/" not in task else None
        states = []
        for directory in self._directories:
            if name is None:
                paths = sorted(directory.iterdir()) if directory.is_dir() else []
            else:
                paths = [directory / f"{name}.json", directory / f"{name}.jsonl"]
            for path in paths:
                try:
                    state = path.stat()
                except (OSError, ValueError):  # ValueError: no file can have such a name
                    continue
                states.append(f"{path} {state.st_size} {state.st_mtime_ns} {state.st_ino}")
        return "\n".join(states)

"""Names to tasks: the built-in ones and the files of the task directories."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from circuitd.tasks.catalog import BUILT_IN
from circuitd.tasks.errors import TaskError
from circuitd.tasks.task import GeneratedTask, Task
from circuitd.tasks.user_file import SUFFIXES, FileTask, load_task_file


class TaskRegistry:
    """Looks tasks up by name; a file `<name>.json` or `<name>.jsonl` defines the task `<name>`.

    Files are looked for anew on every call and read on first use and after a change, so that a user
    can edit one while the daemon runs. One faulty file never hides the other tasks.
    """

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        """Search `directories` in order; those that do not exist hold no tasks."""
        self._directories = tuple(directories)
        self._built_in = {name: GeneratedTask(spec) for name, spec in BUILT_IN.items()}
        self._loaded: dict[Path, tuple[tuple[int, int, int], FileTask]] = {}

    def names(self) -> list[str]:
        """All names: the built-in tasks first, then the files' in alphabetical order."""
        return [*self._built_in, *sorted(self._files()[0])]

    def problems(self) -> list[TaskError]:
        """What is wrong with the files found: unreadable ones and names taken twice."""
        files, problems = self._files()
        for path in files.values():
            try:
                self._load(path)
            except TaskError as error:
                problems.append(error)
        return problems

    def get(self, name: str) -> Task:
        """The task of that name. Raises TaskError, with the nearest names if it is unknown."""
        built_in = self._built_in.get(name)
        if built_in is not None:
            return built_in
        files, _ = self._files()
        if name in files:
            return self._load(files[name])
        near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
        raise TaskError(
            "no such task",
            field="name",
            found=repr(name[:80]),
            advice=f"did you mean {', '.join(near)}?" if near else "list the tasks for their names",
            nearest=near,
        )

    def _files(self) -> tuple[dict[str, Path], list[TaskError]]:
        files: dict[str, Path] = {}
        problems: list[TaskError] = []
        for directory in self._directories:
            if not directory.is_dir():
                continue
            for path in sorted(directory.iterdir()):
                if path.suffix not in SUFFIXES or not path.is_file():
                    continue
                taken = files.get(path.stem)
                if taken is None and path.stem not in self._built_in:
                    files[path.stem] = path
                    continue
                problems.append(
                    TaskError(
                        f"the name {path.stem!r} is taken by {taken or 'a built-in task'}",
                        path=str(path),
                        advice="rename the file",
                    )
                )
        return files, problems

    def _load(self, path: Path) -> FileTask:
        try:
            status = path.stat()
        except OSError as error:
            raise TaskError(f"cannot be read: {error.strerror}", path=str(path)) from error
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._loaded.get(path)
        if known is not None and known[0] == version:
            return known[1]
        task = load_task_file(path)
        self._loaded[path] = (version, task)
        return task

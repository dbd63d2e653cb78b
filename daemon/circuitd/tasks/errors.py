"""The one error every task operation raises, with the fields a caller needs to act on it."""

from __future__ import annotations

from collections.abc import Iterable


class TaskError(ValueError):
    """A task that is unknown, malformed or impossible for the given tokenizer.

    `problem` says what is wrong, `advice` what to do about it. The other fields place the fault and
    are None where they do not apply: `task` (its name), `path` (the file it came from), `pair`
    (index in that file, from 0), `field` (inside the pair or file), `found` (the value, short).
    `nearest` are names that exist.
    """

    def __init__(
        self,
        problem: str,
        *,
        advice: str = "",
        task: str | None = None,
        path: str | None = None,
        pair: int | None = None,
        field: str | None = None,
        found: str | None = None,
        nearest: Iterable[str] = (),
    ) -> None:
        self.problem = problem
        self.advice = advice
        self.task = task
        self.path = path
        self.pair = pair
        self.field = field
        self.found = found
        self.nearest = tuple(nearest)
        place = [
            f"{label} {value}"
            for label, value in (
                ("file", path),
                ("task", task),
                ("pair", pair),
                ("field", field),
            )
            if value is not None
        ]
        text = f"{', '.join(place)}: {problem}" if place else problem
        if found is not None:
            text += f" (found {found})"
        if advice:
            text += f"; {advice}"
        super().__init__(text)

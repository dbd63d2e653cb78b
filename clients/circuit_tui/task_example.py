"""Making a task example out of texts: a pair of prompts with the right next token of each.

A pair is two prompts that differ in what must come next. It is added as a line to a task file of
the user's, which the daemon of the same machine reads.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from circuit_protocol.endpoints import config_dir
from circuit_protocol.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Side:
    """A prompt and what must come next."""

    prompt: str
    target: str


def check_pair(first: Side, second: Side) -> None:
    """Raise InvalidRequest for two sides that teach nothing."""
    if first.target == second.target:
        raise InvalidRequest(
            "the two prompts of a pair differ in what must come next",
            found=f"{first.target!r} twice",
            hint="Change the text so that another token is right, then press x again",
        )


def add_pair(task: str, first: Side, second: Side, directory: Path | None = None) -> Path:
    """Add a pair to the task file `task` (made on the spot); the file's path.

    Raises InvalidRequest for a name that cannot be a task's, and for a pair that teaches nothing.
    """
    if _NAME.fullmatch(task) is None:
        raise InvalidRequest(
            "a task's name is of letters, digits, _, . and -", asked=task, hint="Like my_quotes"
        )
    check_pair(first, second)
    folder = config_dir() / "tasks" if directory is None else directory
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}.jsonl"
    lines = []
    if not path.exists():
        lines.append({"description": f"Pairs of prompts written in the terminal UI ({task})."})
    lines.append(
        {"prompts": [first.prompt, second.prompt], "targets": [first.target, second.target]}
    )
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path

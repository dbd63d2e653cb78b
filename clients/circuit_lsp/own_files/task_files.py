"""Task files as they are written: pairs of prompts, and what the daemon would not take.

The rules are those of the daemon (docs say them under "tasks"); what takes the tokenizer, whether a
target is a single token, is asked of it by `diagnostics`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlparse

from circuit_lsp.own_files.json_places import MAX_CHARACTERS, Mistake, Value, parse
from circuit_lsp.texts import Text

SUFFIXES: Final = (".json", ".jsonl")
_DOCUMENT_FIELDS: Final = ("name", "description", "pairs", "held_out")
_PAIR_FIELDS: Final = ("prompts", "targets", "held_out")


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair as far as it is well formed: two prompts and two targets."""

    value: Value
    prompts: tuple[Value, Value]
    targets: tuple[Value, Value]

    @property
    def name(self) -> str:
        """What an outline shows: the end of the first prompt, and both targets."""
        prompt = str(self.prompts[0].data)
        tail = prompt if len(prompt) <= 40 else "…" + prompt[-39:]
        return f"{tail!r} → {self.targets[0].data!r} | {self.targets[1].data!r}"


@dataclass
class TaskFile:
    """What a task file says, and where it is wrong."""

    task: str
    description: Value | None = None
    pairs: list[Pair] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


def path_of(uri: str) -> PurePosixPath:
    """The path in a document's address."""
    return PurePosixPath(unquote(urlparse(uri).path))


def read_task_file(text: Text) -> TaskFile | None:
    """`text` as a task file; None if it is none."""
    path = path_of(text.uri)
    if path.suffix not in SUFFIXES or len(text.source) > MAX_CHARACTERS:
        return None
    lines = path.suffix == ".jsonl"
    values = list(_lines(text)) if lines else [parse(text.source)]
    if not _looks_like_one([value for value, _ in values if value], lines=lines):
        return None
    found = TaskFile(path.stem)
    for i, (value, mistake) in enumerate(values):
        if mistake is not None:
            found.mistakes.append(mistake)
        if value is None or (mistake is not None and i > 0):
            continue  # what its broken rest would be blamed for is known already
        if i == 0:
            _read_head(found, value, lines=lines)
        elif lines:
            _read_pair(found, value)
    if not any(m for _, m in values) and len(found.pairs) < 2:
        _blame(found, values[0][0], "a task has at least two pairs, one of them held out")
    return found


def _lines(text: Text) -> Iterator[tuple[Value | None, Mistake | None]]:
    for line in range(len(text.line_starts)):
        start, end = text.line_range(line)
        if text.source[start:end].strip():
            yield parse(text.source, start, end)


def _looks_like_one(values: list[Value], *, lines: bool) -> bool:
    if not values or not isinstance(values[0].data, dict):
        return False
    if lines:
        return any(v.get("prompts") or v.get("targets") for v in values[:8])
    pairs = values[0].get("pairs")
    return pairs is not None and isinstance(pairs.data, list)


def _read_head(found: TaskFile, head: Value, *, lines: bool) -> None:
    if not isinstance(head.data, dict):
        return
    found.description = head.get("description")
    for name, (key, _) in head.data.items():
        if name not in _DOCUMENT_FIELDS:
            known = ", ".join(_DOCUMENT_FIELDS)
            _blame(found, key, f"a task file has no field `{name}`; it has {known}")
    name = head.get("name")
    if name is not None and name.data not in (None, found.task):
        _blame(found, name, f"the name differs from the file's, which is `{found.task}`")
    if lines and (head.get("prompts") or head.get("targets")):
        _blame(found, head, 'the first line must be {"description": "..."}')
    for field_name in ("pairs", "held_out"):
        listed = head.get(field_name)
        if listed is not None:
            if not isinstance(listed.data, list):
                _blame(found, listed, f"`{field_name}` is a list of pairs")
            for pair in listed.items():
                _read_pair(found, pair)


def _read_pair(found: TaskFile, value: Value) -> None:
    if not isinstance(value.data, dict):
        _blame(found, value, 'a pair is {"prompts": [a, b], "targets": [x, y]}')
        return
    for name, (key, _) in value.data.items():
        if name not in _PAIR_FIELDS:
            _blame(found, key, f"a pair has no field `{name}`; it has {', '.join(_PAIR_FIELDS)}")
    sides: list[tuple[Value, Value]] = []
    for name in ("prompts", "targets"):
        listed = value.get(name)
        if listed is None:
            _blame(found, value, f"this pair has no {name}")
        elif len(list(listed.items())) != 2:
            _blame(found, listed, f"a pair has two {name}")
        else:
            first, second = listed.data
            if first.plain == second.plain:
                _blame(found, listed, f"both {name} are the same; the two sides must differ")
            if all(_is_side(found, side, name) for side in (first, second)):
                sides.append((first, second))
    if len(sides) == 2:
        found.pairs.append(Pair(value, sides[0], sides[1]))


def _is_side(found: TaskFile, side: Value, name: str) -> bool:
    data = side.plain
    is_id = isinstance(data, int) and not isinstance(data, bool) and data >= 0
    if isinstance(data, str) and data:
        return True
    if name == "targets":
        if is_id:
            return True
        _blame(found, side, "a target is text or one token id")
        return False
    if isinstance(data, list) and data and all(isinstance(i, int) and i >= 0 for i in data):
        return True
    _blame(found, side, "a prompt is text or a list of token ids")
    return False


def _blame(found: TaskFile, value: Value | None, message: str) -> None:
    start, end = (value.start, value.end) if value else (0, 0)
    found.mistakes.append(Mistake(message, start, end))

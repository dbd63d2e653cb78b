"""Tasks that users define in a JSON or JSONL file: pairs of prompts and their two target tokens.

JSON: `{"description": "...", "pairs": [{"prompts": [a, b], "targets": [x, y]}, ...]}`, and
`"held_out"` with pairs likewise if wanted.
JSONL: a first line `{"description": "..."}`, then one pair a line, with `"held_out": true` for
that split. A prompt is text or a list of token ids, a target text or one id. The file's stem is the
task's name. Without held-out pairs a fifth of the pairs, drawn by the name, is held out.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Annotated

import msgspec

from circuitd.store.tokenizer import Tokenizer, TokenizerError
from circuitd.tasks.batch import TaskBatch, TokenPair, stack_pairs, tokenise_side
from circuitd.tasks.errors import TaskError
from circuitd.tasks.task import TextExample, check_request
from circuitd.tasks.words import Split

MAX_FILE_NBYTES = 16 << 20
MAX_PAIRS = 100_000
MAX_PROMPT_CHARS = 65_536
MAX_PROMPT_TOKENS = 16_384
SUFFIXES = (".json", ".jsonl")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PLACE = re.compile(r"^(.*) - at `\$\.?(.*)`$")
_HELD_OUT_SHARE = 0.2

_TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_PromptText = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PROMPT_CHARS)]
_PromptIds = Annotated[list[_TokenId], msgspec.Meta(min_length=1, max_length=MAX_PROMPT_TOKENS)]
_Prompt = _PromptText | _PromptIds
_Target = Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | _TokenId


class UserPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pair of a file; `held_out` is for JSONL lines."""

    prompts: tuple[_Prompt, _Prompt]
    targets: tuple[_Target, _Target]
    held_out: bool = False


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str | None = None
    description: Annotated[str, msgspec.Meta(max_length=2_000)] = ""
    pairs: list[msgspec.Raw] = []
    held_out: list[msgspec.Raw] = []


class FileTask:
    """A task read from a file. Its pairs keep the file's numbering, for errors that name them."""

    aligned = False

    def __init__(
        self,
        name: str,
        description: str,
        source: str,
        splits: dict[Split, list[tuple[int, UserPair]]],
    ) -> None:
        """Hold the (index in the file, pair) of each split."""
        self.name = name
        self.description = description
        self.source = source
        self._splits = splits

    def n_pairs(self, split: Split) -> int | None:
        """How many pairs the split holds."""
        check_request(self.name, split, 1)
        return len(self._splits[split])

    def examples(self, split: Split, n: int, seed: int) -> list[TextExample]:
        """Up to `n` pairs of the shuffled split; token ids show as a list of numbers."""
        check_request(self.name, split, n)
        available = self._splits[split]
        rng = random.Random(f"{self.name}:{split}:{seed}")
        chosen = rng.sample(range(len(available)), min(n, len(available)))
        return [
            (_as_text(p.prompts), _as_text(p.targets)) for _, p in (available[i] for i in chosen)
        ]

    def sample(self, tokenizer: Tokenizer, split: Split, n: int, seed: int) -> TaskBatch:
        """Draw `n` pairs: passes over the shuffled split, so every pair serves equally often (+-1).

        Nothing is left out: a pair that this tokenizer cannot represent raises TaskError naming it.
        """
        check_request(self.name, split, n)
        available = self._splits[split]
        rng = random.Random(f"{self.name}:{split}:{seed}")
        order: list[int] = []
        while len(order) < n:
            order.extend(rng.sample(range(len(available)), len(available)))
        tokens: dict[int, TokenPair] = {}
        for at in order[:n]:
            if at not in tokens:
                tokens[at] = self._tokenise(tokenizer, *available[at])
        return stack_pairs([tokens[at] for at in order[:n]], self.name, split)

    def _tokenise(self, tokenizer: Tokenizer, index: int, pair: UserPair) -> TokenPair:
        sides: list[tuple[list[int], int]] = []
        for side, (prompt, target) in enumerate(zip(pair.prompts, pair.targets, strict=True)):
            try:
                sides.append(_tokenise_user_side(tokenizer, prompt, target))
            except (TaskError, TokenizerError) as error:
                field = (error.field if isinstance(error, TaskError) else None) or "prompts"
                raise TaskError(
                    error.problem if isinstance(error, TaskError) else str(error),
                    path=self.source,
                    task=self.name,
                    pair=index,
                    field=f"{field}[{side}]",
                    advice=error.advice if isinstance(error, TaskError) else "",
                ) from error
        if sides[0][1] == sides[1][1]:
            raise TaskError(
                f"both targets are token {sides[0][1]}",
                path=self.source,
                task=self.name,
                pair=index,
                field="targets",
                advice="the two sides must have different right answers",
            )
        return TokenPair((sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]))


def _as_text(sides: tuple[_Prompt, _Prompt] | tuple[_Target, _Target]) -> tuple[str, str]:
    left, right = (side if isinstance(side, str) else str(side) for side in sides)
    return left, right


def _tokenise_user_side(
    tokenizer: Tokenizer, prompt: str | list[int], target: str | int
) -> tuple[list[int], int]:
    if isinstance(prompt, str) and isinstance(target, str):
        return tokenise_side(tokenizer, prompt, target)
    prompt_ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    target_id = target if isinstance(target, int) else tokenizer.single_token(target)
    if target_id is None:
        return tokenise_side(tokenizer, "", str(target))
    for field, ids in (("prompts", prompt_ids), ("targets", [target_id])):
        highest = max(ids)
        if highest >= tokenizer.n_vocab:
            raise TaskError(
                f"token id {highest} is outside the vocabulary 0..{tokenizer.n_vocab - 1}",
                field=field,
                advice=f"give ids of the tokenizer {tokenizer.name}, or text",
            )
    return list(prompt_ids), target_id


def load_task_file(path: Path) -> FileTask:
    """Read and check a task file. Raises TaskError with file, index of the pair and field."""
    where = str(path)
    name = path.stem
    if path.suffix not in SUFFIXES:
        raise TaskError(
            "not a task file", path=where, found=repr(path.suffix), advice="use .json or .jsonl"
        )
    if not _NAME.fullmatch(name):
        raise TaskError(
            "the file's stem is no task name",
            path=where,
            found=repr(name),
            advice="use up to 64 letters, digits, `_`, `-` and `.`, first a letter or digit",
        )
    document, raw_pairs = _read_document(path)
    if document.name not in (None, name):
        raise TaskError(
            f"the task's name differs from the file's stem {name!r}",
            path=where,
            field="name",
            found=repr(document.name),
            advice="rename the file or leave the field out",
        )
    if not raw_pairs:
        raise TaskError("no pairs", path=where, field="pairs", advice="give at least two pairs")
    if len(raw_pairs) > MAX_PAIRS:
        raise TaskError(
            f"more than {MAX_PAIRS} pairs",
            path=where,
            found=str(len(raw_pairs)),
            advice="split the file into several tasks",
        )
    pairs = [
        _read_pair(where, index, raw, held_out) for index, (raw, held_out) in enumerate(raw_pairs)
    ]
    return FileTask(name, document.description, where, _split(where, name, pairs))


def _read_document(path: Path) -> tuple[_Document, list[tuple[bytes, bool]]]:
    where = str(path)
    try:
        nbytes = path.stat().st_size
        if nbytes > MAX_FILE_NBYTES:
            raise TaskError(
                f"larger than {MAX_FILE_NBYTES} bytes",
                path=where,
                found=f"{nbytes} bytes",
                advice="split the file into several tasks",
            )
        content = path.read_bytes()
    except OSError as error:
        raise TaskError(f"cannot be read: {error.strerror or error}", path=where) from error
    lines: list[bytes] = []
    if path.suffix == ".jsonl":
        head, *lines = [line for line in content.splitlines() if line.strip()] or [b""]
    else:
        head = content
    try:
        document = msgspec.json.decode(head, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem, field = _place(error)
        raise TaskError(
            problem,
            path=where,
            field=field,
            found=_short(head),
            advice=(
                'the first line must be {"description": "..."}'
                if path.suffix == ".jsonl"
                else 'the file must be {"description": "...", "pairs": [...]}'
            ),
        ) from error
    raw_pairs = [(bytes(raw), False) for raw in document.pairs]
    raw_pairs += [(bytes(raw), True) for raw in document.held_out]
    raw_pairs += [(line, False) for line in lines]
    return document, raw_pairs


def _read_pair(where: str, index: int, raw: bytes, held_out: bool) -> UserPair:
    try:
        pair = msgspec.json.decode(raw, type=UserPair)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem, field = _place(error)
        raise TaskError(
            problem,
            path=where,
            pair=index,
            field=field,
            found=_short(raw),
            advice='a pair is {"prompts": [a, b], "targets": [x, y]}, prompts text or lists of ids',
        ) from error
    for field, (first, second) in (("prompts", pair.prompts), ("targets", pair.targets)):
        if first == second:
            raise TaskError(
                f"both {field} are the same",
                path=where,
                pair=index,
                field=field,
                found=_short(repr(first).encode()),
                advice="the two sides must differ in prompt and in right answer",
            )
    return msgspec.structs.replace(pair, held_out=True) if held_out else pair


def _split(where: str, name: str, pairs: list[UserPair]) -> dict[Split, list[tuple[int, UserPair]]]:
    numbered = list(enumerate(pairs))
    held_out = [(index, pair) for index, pair in numbered if pair.held_out]
    train = [(index, pair) for index, pair in numbered if not pair.held_out]
    if not held_out and len(train) > 1:
        shuffled = random.Random(f"split:{name}").sample(train, len(train))
        size = max(1, round(_HELD_OUT_SHARE * len(train)))
        held_out, train = sorted(shuffled[:size]), sorted(shuffled[size:])
    if not train or not held_out:
        raise TaskError(
            "both splits need a pair",
            path=where,
            field="pairs",
            found=f"{len(train)} training and {len(held_out)} held-out pairs",
            advice="give at least two pairs",
        )
    known = {msgspec.json.encode(pair.prompts) for _, pair in train}
    for index, pair in held_out:
        if msgspec.json.encode(pair.prompts) in known:
            raise TaskError(
                "a held-out pair is also a training pair",
                path=where,
                pair=index,
                field="prompts",
                advice="remove one of the two, so that held-out figures mean something",
            )
    return {"train": train, "held_out": held_out}


def _place(error: Exception) -> tuple[str, str | None]:
    """Separate msgspec's message from the field it names."""
    match = _PLACE.match(str(error))
    return (match.group(1), match.group(2) or None) if match else (str(error), None)


def _short(raw: bytes) -> str:
    text = raw[:80].decode("utf-8", errors="replace")
    return text if len(raw) <= 80 else text + "…"

"""Two texts from documents as a pair of a task file: one is taken, then the other.

The file is `circuit_pairs.jsonl` in the workspace; it is a task file of the name `circuit_pairs`,
to be renamed for a task of one's own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from lsprotocol import types

from circuit_lsp.messages.commands import PairTaken
from circuit_lsp.reading import Reading
from circuit_lsp.tokens import visible
from circuit_protocol.errors import BadTokens, InvalidRequest

FILE_NAME: Final = "circuit_pairs.jsonl"
_HEAD: Final = {"description": "Pairs taken from documents."}


@dataclass(frozen=True, slots=True)
class Side:
    """A prompt and the token that follows it."""

    prompt: str
    target: str


class Pairs:
    """The side that was taken and waits for the other."""

    def __init__(self) -> None:
        self._first: Side | None = None

    @property
    def is_half(self) -> bool:
        """Whether one side is taken."""
        return self._first is not None

    def take(self, side: Side) -> tuple[Side, Side] | None:
        """Both sides, once there are two that differ. Raises InvalidRequest where they do not."""
        first = self._first
        if first is None:
            self._first = side
            return None
        if first.target == side.target or first.prompt == side.prompt:
            what = "targets" if first.target == side.target else "prompts"
            raise InvalidRequest(
                f"both sides have the same {what}",
                found=side.target if what == "targets" else "the same text",
                hint="Take another second side",
            )
        self._first = None
        return first, side


def side_of(reading: Reading, start: int, end: int) -> Side:
    """The selected token, and as much of the text before it as the model sees.

    Raises BadTokens where the selection is no single token.
    """
    spot = reading.spot_at(start)
    chosen = [s for s in reading.spots if s.start < end and s.end > start]
    if len(chosen) != 1 or spot.n_tokens != 1:
        shown = " ".join(
            f"`{visible(t.data)}`" for s in chosen for t in reading.tokens[s.first : s.last + 1]
        )
        raise BadTokens("an answer is a single token", found=shown, hint="Select one of them")
    first = max(0, spot.first - reading.model.block_size + 1)
    begin = next(s.start for s in reading.spots if s.first >= first)
    prompt = reading.text.plain[begin : spot.start]
    if not prompt:
        raise BadTokens("nothing comes before the first token", hint="Select a later one")
    return Side(prompt, reading.text.plain[spot.start : spot.end])


def taken(side: Side, pair: tuple[Side, Side] | None, file: str | None) -> PairTaken:
    """What to tell the user."""
    if pair is None:
        sentence = f"Took `{visible(side.target.encode())}`; select the other side's answer next."
    else:
        answers = " | ".join(f"`{visible(s.target.encode())}`" for s in pair)
        sentence = f"Wrote the pair {answers} to {FILE_NAME}."
    return PairTaken(prompt=side.prompt, target=side.target, file=file, sentence=sentence)


def edit_that_adds(
    root: Path, pair: tuple[Side, Side], open_text: str | None
) -> types.WorkspaceEdit:
    """Add a pair to the task file of the workspace, which is made if it is not there."""
    path = root / FILE_NAME
    uri = path.as_uri()
    content = open_text
    if content is None:
        content = path.read_text("utf-8") if path.is_file() else ""
    line = msgspec.json.encode(
        {"prompts": [s.prompt for s in pair], "targets": [s.target for s in pair]}
    ).decode()
    new = line + "\n"
    if not content:
        new = msgspec.json.encode(_HEAD).decode() + "\n" + new
    elif not content.endswith("\n"):
        new = "\n" + new
    lines = content.split("\n")
    end = types.Position(line=len(lines) - 1, character=len(lines[-1].encode("utf-16-le")) // 2)
    return types.WorkspaceEdit(
        document_changes=[
            types.CreateFile(uri=uri, options=types.CreateFileOptions(ignore_if_exists=True)),
            types.TextDocumentEdit(
                text_document=types.OptionalVersionedTextDocumentIdentifier(uri=uri),
                edits=[types.TextEdit(range=types.Range(start=end, end=end), new_text=new)],
            ),
        ]
    )

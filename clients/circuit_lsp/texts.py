"""A document's text at one version, and where its places are.

Lines end with LF, CRLF or CR, as LSP has it, and with nothing else: Python's `splitlines` would
also count form feeds and other separators, and every place after one would be wrong.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from lsprotocol import types
from pygls.workspace import PositionCodec

from circuit_lsp.messages.shared import Position, Range

_LINE_END = re.compile(r"\r\n|\n|\r")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Text:
    """A document at one version. Offsets count code points of `source`."""

    uri: str
    version: int | None
    source: str
    language: str
    codec: PositionCodec

    @cached_property
    def line_starts(self) -> list[int]:
        """Offset of each line's first character."""
        return [0, *(match.end() for match in _LINE_END.finditer(self.source))]

    @cached_property
    def plain(self) -> str:
        """`source` with lone surrogates, which no tokenizer reads, replaced one by one."""
        return _SURROGATE.sub("\ufffd", self.source)

    def line_of(self, offset: int) -> int:
        """The line that holds `offset`."""
        return bisect_right(self.line_starts, offset) - 1

    def line_range(self, line: int) -> tuple[int, int]:
        """Start of a line and of the next one."""
        starts = self.line_starts
        end = starts[line + 1] if line + 1 < len(starts) else len(self.source)
        return starts[line], end

    def offset_at(self, position: Position | types.Position) -> int:
        """The offset of a place; one beyond a line or the text is its end."""
        if position.line >= len(self.line_starts):
            return len(self.source)
        start, end = self.line_range(max(0, position.line))
        line = self.source[start:end].rstrip("\r\n")
        if line.isascii():
            return start + min(max(0, position.character), len(line))
        units = 0
        for i, character in enumerate(line):
            if units >= position.character:
                return start + i
            units += self.codec.client_num_units(character)
        return start + len(line)

    def position_at(self, offset: int) -> Position:
        """The place of an offset, in the units that were agreed on."""
        line = self.line_of(offset)
        before = self.source[self.line_starts[line] : offset]
        # The codec looks at each character; most lines need not be looked at.
        units = len(before) if before.isascii() else self.codec.client_num_units(before)
        return Position(line=line, character=units)

    def range_at(self, start: int, end: int) -> Range:
        """The range of some offsets."""
        return Range(start=self.position_at(start), end=self.position_at(end))

    def lsp_range(self, start: int, end: int) -> types.Range:
        """As `range_at`, for a message of LSP itself."""
        return lsp_range(self.range_at(start, end))

    def changed(
        self, changes: Iterable[types.TextDocumentContentChangeEvent], version: int | None
    ) -> "Text":
        """The text after some edits, each in terms of the one before it."""
        text = self
        for change in changes:
            source = change.text
            if isinstance(change, types.TextDocumentContentChangePartial):
                start = text.offset_at(change.range.start)
                end = max(start, text.offset_at(change.range.end))
                source = text.source[:start] + change.text + text.source[end:]
            text = Text(text.uri, version, source, text.language, text.codec)
        return text

    def first_difference(self, other: "Text") -> int:
        """Offset of the first character in which two versions differ."""
        a, b = self.source, other.source
        low, high = 0, min(len(a), len(b))
        while low < high:  # the longest common beginning
            middle = (low + high + 1) // 2
            if a[low:middle] == b[low:middle]:
                low = middle
            else:
                high = middle - 1
        return low


def lsp_position(position: Position) -> types.Position:
    """A place as LSP's own messages carry it."""
    return types.Position(line=position.line, character=position.character)


def lsp_range(place: Range) -> types.Range:
    """A range as LSP's own messages carry it."""
    return types.Range(start=lsp_position(place.start), end=lsp_position(place.end))

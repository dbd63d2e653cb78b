"""Tokens as text that a terminal shows and never obeys, broken into lines by measured width.

A `TokenText` is laid out once for a width; where token `i` begins, on which line, and which token
lies under a cell is then looked up. Token text is data: markup in it means nothing here, since it
becomes segments and never markup.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from circuit_client.render.text_width import shown_bytes, truncate, width


@dataclass(frozen=True, slots=True)
class PlacedToken:
    """Token `index` on line `row`, beginning at `column` and taking `columns` (at least one)."""

    index: int
    row: int
    column: int
    columns: int
    text: str


@lru_cache(maxsize=16384)
def token_text(data: bytes, ascii_only: bool) -> str:
    """What one token looks like: visible, measured, never empty."""
    return shown_bytes(data, ascii_only=ascii_only) or ("''" if ascii_only else "∅")


@dataclass(frozen=True, slots=True)
class TokenText:
    """Tokens laid out in lines of at most `columns`; lines end where the text's do, or wrap.

    Every token is on exactly one line; one that is wider than a line is cut, with a mark.
    """

    columns: int
    placed: tuple[PlacedToken, ...]
    #: Index of the first token of each line.
    starts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many lines there are."""
        return len(self.starts)

    def line(self, row: int) -> tuple[PlacedToken, ...]:
        """The tokens of a line, from left to right; none outside the text."""
        if not 0 <= row < self.rows:
            return ()
        end = self.starts[row + 1] if row + 1 < self.rows else len(self.placed)
        return self.placed[self.starts[row] : end]

    def at(self, row: int, column: int) -> int | None:
        """The token under a cell; None beside the text."""
        line = self.line(row)
        i = bisect_right(line, column, key=lambda token: token.column) - 1
        if i < 0 or column >= line[i].column + line[i].columns or column < 0:
            return None
        return line[i].index

    def nearest(self, row: int, column: int) -> int | None:
        """The token of line `row` (moved into the text) that lies nearest to `column`."""
        line = self.line(max(0, min(self.rows - 1, row)))
        if not line:
            return None
        return min(
            line, key=lambda t: max(t.column - column, column - t.column - t.columns + 1, 0)
        ).index


def lay_out(
    tokens: Sequence[bytes],
    columns: int,
    *,
    ascii_only: bool = False,
    suffixes: Sequence[str] | None = None,
    frames: dict[int, tuple[str, str]] | None = None,
) -> TokenText:
    """Lay tokens out in lines of `columns` (at least one).

    `suffixes` (a digit beside each token) and `frames` (before and after some tokens) are part of
    a token's width and stay on its line.
    """
    columns = max(1, columns)
    placed: list[PlacedToken] = []
    starts: list[int] = []
    row, used, fresh = 0, 0, True
    for i, data in enumerate(tokens):
        text = token_text(data, ascii_only)
        before, after = frames.get(i, ("", "")) if frames else ("", "")
        text = before + text + (suffixes[i] if suffixes else "") + after
        taken = width(text)
        if taken > columns:
            text = truncate(text, columns, ellipsis="~" if ascii_only else "…") or " "
            taken = width(text)
        if not fresh and used + taken > columns:
            row, used, fresh = row + 1, 0, True
        if fresh:
            starts.append(i)
        placed.append(PlacedToken(i, row, used, taken, text))
        used, fresh = used + taken, False
        if data.endswith((b"\n", b"\r")):
            row, used, fresh = row + 1, 0, True
    return TokenText(columns, tuple(placed), tuple(starts))

"""From a tokenizer's bytes to places in a text.

A byte-level token may begin or end within a code point. Tokens that share one have no places of
their own, so they are shown as one: a *spot*, the smallest run of tokens that covers whole
characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_client.render.text_width import shown_bytes
from circuit_protocol.replies import TokenInfo


@dataclass(frozen=True, slots=True)
class Spot:
    """Tokens `first` to `last` (inclusive) cover characters `start` to `end` of the text."""

    first: int
    last: int
    start: int
    end: int

    @property
    def n_tokens(self) -> int:
        """How many tokens it takes."""
        return self.last - self.first + 1


def spots_of(text: str, tokens: Sequence[TokenInfo], base: int = 0) -> list[Spot]:
    """The spots of `text` in order; `base` is added to their offsets.

    The tokens are those of the whole of `text`: their bytes in order are its UTF-8.
    """
    if text.isascii():  # characters are bytes, and no token splits any
        ends = (base + token.offset + len(token.data) for token in tokens)
        return [Spot(i, i, base + tokens[i].offset, end) for i, end in enumerate(ends)]
    spots: list[Spot] = []
    character = byte = 0  # the place reached in the text, as a character and as its first byte
    first, start = 0, 0
    for i, token in enumerate(tokens):
        end = token.offset + len(token.data)
        while character < len(text) and byte + utf8_length(text[character]) <= end:
            byte += utf8_length(text[character])
            character += 1
        if byte == end:  # the token ends where a character does
            spots.append(Spot(first, i, base + start, base + character))
            first, start = i + 1, character
    return spots


def utf8_length(character: str) -> int:
    """Bytes of a character in UTF-8."""
    code = ord(character)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4


def spot_at(spots: Sequence[Spot], offset: int) -> Spot | None:
    """The spot that covers `offset`; the last one where `offset` is just behind it."""
    low, high = 0, len(spots)
    while low < high:
        middle = (low + high) // 2
        if spots[middle].end <= offset:
            low = middle + 1
        else:
            high = middle
    if low < len(spots) and spots[low].start <= offset:
        return spots[low]
    return spots[low - 1] if low and spots[low - 1].end == offset else None


def visible(data: bytes) -> str:
    """A token for people: control characters and blanks visible, bytes that are no text escaped."""
    return shown_bytes(data).replace(" ", "␣")

"""How wide text is on a terminal, and how to show characters that a terminal would obey or hide."""

import unicodedata
from collections.abc import Iterator

_PICTURES = {"\n": "↵", "\r": "␍", "\t": "→", "\x1b": "␛", "\x7f": "␡"}
#: Format characters that reorder, join or hide others: shown by number instead.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def char_width(char: str) -> int:
    """Columns that one printable character takes: 0 (combining), 1 or 2 (East Asian wide)."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Columns that printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(char_width, text))


def shown(text: str, *, ascii_only: bool = False) -> str:
    """`text` with every character visible, one after the other, and none that a terminal obeys.

    Line ends and tabs become `↵` and `→`, other control characters their Unicode pictures,
    characters that reorder or hide text their number. Letters of all scripts stay, unless
    `ascii_only`: then everything beyond ASCII is escaped as in a Python string.
    """
    return "".join(_shown_char(c, ascii_only) for c in text)


def shown_bytes(data: bytes, *, ascii_only: bool = False) -> str:
    """A token's bytes as visible text; bytes that are no whole character in hexadecimal."""
    parts: list[str] = []
    for piece, raw in _decoded(data):
        parts.append(
            shown(piece, ascii_only=ascii_only)
            if piece is not None
            else "".join(f"\\x{byte:02x}" for byte in raw)
        )
    return "".join(parts)


def _decoded(data: bytes) -> Iterator[tuple[str | None, bytes]]:
    while data:
        try:
            yield data.decode(), data
            return
        except UnicodeDecodeError as e:
            if e.start:
                yield data[: e.start].decode(), data[: e.start]
            yield None, data[e.start : e.end]
            data = data[e.end :]


def _shown_char(char: str, ascii_only: bool) -> str:
    if " " <= char <= "~":
        return char
    if ascii_only:
        return char.encode("unicode_escape").decode()
    if char in _PICTURES:
        return _PICTURES[char]
    if char < " ":
        return chr(0x2400 + ord(char))
    if char == "\u00a0":
        return "⍽"
    if unicodedata.category(char) in _HIDDEN_CATEGORIES or char == "\u034f":
        return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
    if char_width(char) == 0:
        return f"◌{char}"  # something to combine with, or it would change its neighbour
    return char


def truncate(text: str, columns: int, *, ellipsis: str = "…") -> str:
    """The beginning of printable `text` that fits `columns`, marked where something is missing."""
    if width(text) <= columns:
        return text
    room = columns - width(ellipsis)
    if room < 0:
        return ""
    taken, used = [], 0
    for char in text:
        used += char_width(char)
        if used > room:
            break
        taken.append(char)
    return "".join(taken) + ellipsis


def pad(text: str, columns: int, align: str = "left") -> str:
    """Printable `text` filled with blanks to `columns`, by its width and not its length."""
    gap = " " * max(0, columns - width(text))
    return gap + text if align == "right" else text + gap

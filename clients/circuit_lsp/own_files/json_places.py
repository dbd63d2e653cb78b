"""JSON with the place of every value: what a diagnostic or a symbol needs to point at.

It goes on as far as it can: of a document that is being typed, all before the first mistake.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_ATOM: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}
_MAX_DEPTH: Final = 64
#: Larger files are not looked into while somebody types: that would take seconds.
MAX_CHARACTERS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Value:
    """A value and the offsets it stands at. `data`: a plain value, or Values in a list or dict."""

    data: Any
    start: int
    end: int

    def get(self, key: str) -> "Value | None":
        """A field of an object."""
        return self.data[key][1] if isinstance(self.data, dict) and key in self.data else None

    def items(self) -> Iterator["Value"]:
        """The items of a list; none of anything else."""
        yield from self.data if isinstance(self.data, list) else ()

    @property
    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.data, dict):
            return {key: value.plain for key, (_, value) in self.data.items()}
        return [v.plain for v in self.data] if isinstance(self.data, list) else self.data


@dataclass(frozen=True, slots=True)
class Mistake:
    """Where and why a text is no JSON."""

    message: str
    start: int
    end: int


class _Wrong(Exception):
    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class _Parser:
    """Reads one value; objects and lists keep what was read before a mistake."""

    def __init__(self, text: str, end: int) -> None:
        self._text = text
        self._end = end
        self.wrong: _Wrong | None = None

    def skip(self, at: int) -> int:
        match = _BLANK.match(self._text, at, self._end)
        return match.end() if match else at

    def value(self, at: int, depth: int = 0) -> Value:
        at = self.skip(at)
        if at >= self._end:
            raise _Wrong("a value is missing", at)
        if depth > _MAX_DEPTH:
            raise _Wrong(f"nested deeper than {_MAX_DEPTH}", at)
        match self._text[at]:
            case "{":
                return self._object(at, depth)
            case "[":
                return self._list(at, depth)
            case '"':
                text, end = self._string(at)
                return Value(text, at, end)
        match = _ATOM.match(self._text, at, self._end)
        if match is None:
            raise _Wrong("this is no value", at)
        word = match[0]
        number = float if re.search(r"[.eE]", word) else int
        return Value(_WORDS[word] if word in _WORDS else number(word), at, match.end())

    def _string(self, at: int) -> tuple[str, int]:
        match = _STRING.match(self._text, at, self._end)
        if match is None:
            raise _Wrong("this string does not end, or holds what has to be escaped", at)
        return json.loads(match[0]), match.end()

    def _object(self, start: int, depth: int) -> Value:
        fields: dict[str, tuple[Value, Value]] = {}
        at = self.skip(start + 1)
        try:
            while self._peek(at) != "}":
                if self._peek(at) != '"':
                    raise _Wrong("the name of a field is missing", at)
                name, after = self._string(at)
                key = Value(name, at, after)
                at = self._expect(":", after)
                value = self.value(at, depth + 1)
                fields[name] = key, value
                at = self._next("}", value.end)
        except _Wrong as e:
            return self._broken(fields, start, e)
        return Value(fields, start, at + 1)

    def _list(self, start: int, depth: int) -> Value:
        items: list[Value] = []
        at = self.skip(start + 1)
        try:
            while self._peek(at) != "]":
                items.append(self.value(at, depth + 1))
                at = self._next("]", items[-1].end)
        except _Wrong as e:
            return self._broken(items, start, e)
        return Value(items, start, at + 1)

    def _broken(self, so_far: Any, start: int, wrong: _Wrong) -> Value:
        if self.wrong is None:
            self.wrong = wrong
        return Value(so_far, start, self._end)

    def _next(self, closing: str, at: int) -> int:
        """Behind the comma; at the bracket, if that comes first."""
        if self.wrong is not None:
            raise self.wrong
        at = self.skip(at)
        if self._peek(at) == closing:
            return at
        at = self._expect(",", at)
        if self._peek(at) == closing:
            raise _Wrong("nothing follows this comma", at)
        return at

    def _expect(self, what: str, at: int) -> int:
        at = self.skip(at)
        if self._peek(at) != what:
            raise _Wrong(f"`{what}` is missing", at)
        return self.skip(at + 1)

    def _peek(self, at: int) -> str:
        if at >= self._end:
            raise _Wrong("the text ends too early", self._end)
        return self._text[at]


def parse(text: str, start: int = 0, end: int | None = None) -> tuple[Value | None, Mistake | None]:
    """The value in a stretch of `text`, as far as it can be read, and the first mistake."""
    stop = len(text) if end is None else end
    parser = _Parser(text, stop)
    value: Value | None = None
    try:
        value = parser.value(start)
        wrong = parser.wrong
        rest = parser.skip(value.end)
        if wrong is None and rest < stop:
            wrong = _Wrong("nothing may follow the value", rest)
    except _Wrong as e:
        wrong = e
    if wrong is None:
        return value, None
    return value, Mistake(str(wrong), min(wrong.at, stop), min(wrong.at + 1, stop))

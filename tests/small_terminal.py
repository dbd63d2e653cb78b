"""A terminal in a hundred lines: what a program's bytes leave on the screen, cell by cell."""

import re
from dataclasses import dataclass, field

from circuit_client.render.text_width import char_width

#: Foreground, background, attributes.
Look = tuple[str, str, frozenset[str]]
_PLAIN: Look = ("", "", frozenset())
_SEQUENCE = re.compile(r"\x1b\[([\d;]*)([A-Za-z])|(.)", re.DOTALL)
_OFF = {"22": {"1", "2"}, "23": {"3"}, "24": {"4"}, "25": {"5"}, "27": {"7"}, "29": {"9"},
        "55": {"53"}}  # fmt: skip
_ON_BLANKS = {"4", "7", "9", "53"}


@dataclass
class SmallTerminal:
    """Knows cursor moves, colours, attributes, erased cells and wide characters; ends at anything
    else, and where something is written whose place is not certain.
    """

    width: int
    height: int
    _cells: list[list[tuple[str, Look]]] = field(init=False)
    _look: Look = ("?", "?", frozenset({"?"}))
    #: None beyond the right margin, where terminals differ in what comes next.
    _x: int | None = None
    _y: int | None = None

    def __post_init__(self) -> None:
        self._cells = [[("?", _PLAIN)] * self.width for _ in range(self.height)]

    def row(self, y: int) -> list[tuple[str, Look]]:
        """What is seen of a row: of a blank no colour of writing, unless a line shows it."""
        return [
            (char, look if char != " " or look[2] & _ON_BLANKS else ("", look[1], frozenset()))
            for char, look in self._cells[y]
        ]

    def feed(self, data: str) -> None:
        """Obey."""
        for match in _SEQUENCE.finditer(data):
            if match[3] is not None:
                self._type(match[3])
            elif match[2] == "m":
                self._switch(match[1].split(";"))
            else:
                self._obey(match[2], [int(n) for n in match[1].split(";") if n])

    def _obey(self, command: str, numbers: list[int]) -> None:
        n = numbers[0] if numbers else 1
        if command == "H":
            self._y, self._x = n - 1, numbers[1] - 1
            return
        assert self._x is not None
        assert self._y is not None
        match command:
            case "A" | "B":
                self._y += n if command == "B" else -n
            case "C" | "D":
                self._x += n if command == "C" else -n
            case "X":
                for x in range(self._x, self._x + n):
                    self._put(x, " ", ("", self._look[1], frozenset()))
            case _:
                raise AssertionError(f"an unknown command: {command}")
        assert 0 <= self._x < self.width
        assert 0 <= self._y < self.height

    def _type(self, char: str) -> None:
        if char == "\r":
            self._x = 0
            return
        assert self._x is not None
        assert self._y is not None
        if char == "\b":
            self._x -= 1
        elif char == "\v":
            self._y += 1
            assert self._y < self.height, "this scrolls"
        else:
            assert char.isprintable()
            columns = char_width(char)
            for x in range(self._x, self._x + columns):
                self._put(x, " ", self._look)
            self._cells[self._y][self._x : self._x + columns] = [
                (char, self._look), ("", self._look)
            ][:columns]  # fmt: skip
            self._x = self._x + columns if self._x + columns < self.width else None

    def _put(self, x: int, char: str, look: Look) -> None:
        """Write a cell; half of a wide character is no character."""
        assert self._y is not None
        row = self._cells[self._y]
        if row[x][0] == "":
            row[x - 1] = (" ", row[x - 1][1])
        if x + 1 < self.width and row[x + 1][0] == "":
            row[x + 1] = (" ", row[x + 1][1])
        row[x] = (char, look)

    def _switch(self, codes: list[str]) -> None:
        foreground, background, attributes = self._look
        codes = [code or "0" for code in codes]
        while codes:
            code = codes.pop(0)
            if code == "0":
                foreground, background, attributes = _PLAIN
            elif code in ("38", "48"):
                n = 2 if codes[0] == "5" else 4
                said = ";".join([code, *codes[:n]])
                del codes[:n]
                foreground, background = (said, background) if code == "38" else (foreground, said)
            elif code in _OFF:
                attributes = attributes - _OFF[code]
            elif len(code) == 1 or code == "53":
                attributes = attributes | {code}
            elif code in ("39", "49"):
                foreground, background = ("", background) if code == "39" else (foreground, "")
            elif code.startswith(("3", "9")):
                foreground = code
            else:
                background = code
        self._look = (foreground, background, attributes)

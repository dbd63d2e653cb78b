"""What a repaint costs on the wire: the cells that differ from what the terminal shows.

Textual sends whole spans of what may have changed, each from the left edge of its widget, every
colour said anew, and a whole screen when anything moves. Over SSH that is the difference between a
graph in which one walks and one in which one waits. `Wire` remembers what the terminal shows, and
what it writes is the difference: runs of cells, in the order and with the cursor moves and changes
of colour that take the fewest bytes. This is the one place that knows Textual's compositor from the
inside.

A terminal that somebody else wrote on is painted anew after `forget`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate

from circuit_client.render.text_width import char_width

#: Foreground, background and attributes, as the parameters of SGR.
Codes = tuple[str, str, tuple[str, ...]]
PLAIN: Final[Codes] = ("", "", ())
#: Attributes that blanks show as well.
_VISIBLE_ON_BLANKS: Final = frozenset({"4", "7", "9", "53"})
#: What takes an attribute back. Bold and dim are taken back together.
_OFF: Final = {"1": "22", "2": "22", "3": "23", "4": "24", "5": "25", "7": "27", "9": "29",
               "53": "55"}  # fmt: skip
#: As many unchanged cells between two runs of one colour are sent again rather than jumped over.
_GAP: Final = 3
#: So many blanks at the end of a run, and before its end, are erased rather than written.
_ERASED_FROM: Final = 6
_LONG_BLANKS: Final = re.compile(" {12,}(?=[^ \x1b])")


@dataclass(slots=True)
class Run:
    """Changed cells of one row that look alike; `n` columns from `x` on."""

    y: int
    x: int
    n: int
    text: str
    codes: Codes
    is_blank: bool

    def by_background(self) -> tuple[object, ...]:
        """What to sort by so that the background changes seldom, and attributes a little more."""
        return self.codes[1], self.codes[2], self.codes[0]

    def by_attributes(self) -> tuple[object, ...]:
        """The other way round."""
        return self.codes[2], self.codes[1], self.codes[0]


class Wire:
    """What a terminal shows, and the bytes that make it show something else."""

    def __init__(self, *, erases: bool = True) -> None:
        """`erases`: erased cells take the background's colour, as they do everywhere but in GNU
        screen.
        """
        self._erases = erases
        self._width = self._height = 0
        #: Characters and codes by row; a character is None where nobody knows what is shown, and
        #: empty where the one before it is wide.
        self._chars: list[list[str | None]] = []
        self._codes: list[list[Codes]] = []
        #: In what look the terminal writes: one that goes on in the next repaint.
        self._pen: Codes | None = None

    def leave(self) -> str:
        """What brings the terminal's plain look back, for whoever writes next."""
        is_plain, self._pen = self._pen == PLAIN, None
        return "" if is_plain else "\x1b[0m"

    def forget(self) -> None:
        """Send everything again: somebody else wrote on the terminal."""
        self._pen = None
        self._chars = [[None] * self._width for _ in range(self._height)]
        self._codes = [[PLAIN] * self._width for _ in range(self._height)]

    def resize(self, width: int, height: int) -> None:
        """A terminal of another size shows nothing that is known."""
        if (width, height) != (self._width, self._height):
            self._width, self._height = width, height
            self.forget()

    def write(
        self, rows: Iterable[tuple[int, int, Iterable[Segment]]], system: ColorSystem | None
    ) -> str:
        """What to write so that these parts of rows are shown: each a row, a column, segments."""
        changed: dict[int, set[int]] = {}
        for y, x, segments in rows:
            if 0 <= y < self._height:
                changed.setdefault(y, set()).update(self._take(y, x, segments, system))
        runs: list[Run] = []
        for y, columns in changed.items():
            runs += _runs(y, sorted(columns), self._chars[y], self._codes[y])
        if not runs:
            return ""
        orders = (runs, sorted(runs, key=Run.by_background), sorted(runs, key=Run.by_attributes))
        text, self._pen = min(map(self._spelt, orders), key=lambda spelt: len(spelt[0]))
        return text

    def _take(
        self, y: int, x: int, segments: Iterable[Segment], system: ColorSystem | None
    ) -> Iterator[int]:
        """Remember part of a row; the columns that showed something else."""
        shown, codes = self._chars[y], self._codes[y]
        for text, style, control in segments:
            if control or not text:
                continue
            look = codes_of(style, system) if style else PLAIN
            blank = _of_blanks(look)
            cells = _cells(text)[: self._width - x]
            looks = [blank if char == " " else look for char in cells]
            end = x + len(cells)
            if shown[x:end] != cells or codes[x:end] != looks:
                for i, char, its in zip(range(x, end), cells, looks, strict=True):
                    if shown[i] != char or codes[i] != its:
                        shown[i], codes[i] = char, its
                        yield i if char or not i else i - 1  # a wide character is written whole
            x = end

    def _spelt(self, runs: Iterable[Run]) -> tuple[str, Codes]:
        """Runs in this order, and the look that the terminal then writes in."""
        out = [] if self._pen is not None else ["\x1b[0m"]
        pen = self._pen or PLAIN
        at: tuple[int, int] | None = None
        for run in runs:
            look = pen if run.is_blank and _suits(pen, run.codes) else run.codes
            out += (_moved(at, run.y, run.x), _switched(pen, look))
            pen, end = look, run.x + run.n
            text = run.text
            if self._erases and not _VISIBLE_ON_BLANKS.intersection(look[2]):
                kept = text.rstrip(" ")
                if (n := len(text) - len(kept)) >= _ERASED_FROM:
                    text, end = f"{kept}\x1b[{n}X", end - n
                text = _LONG_BLANKS.sub(_erased, text)
            out.append(text)
            # At the right margin terminals differ in where the cursor is.
            at = (run.y, end) if end < self._width else None
        return "".join(out), pen


class WireUpdate(CompositorUpdate):
    """An update of Textual's, in the bytes of a `Wire`; empty if the terminal shows it already."""

    def __init__(self, update: ChopsUpdate | LayoutUpdate, wire: Wire, console: Console) -> None:
        wire.resize(*console.size)
        rows = _laid(update) if isinstance(update, LayoutUpdate) else _chopped(update)
        self.text = wire.write(rows, console._color_system)

    def render_segments(self, console: Console) -> str:
        """The escape sequences."""
        return self.text


def _laid(update: LayoutUpdate) -> Iterator[tuple[int, int, Iterable[Segment]]]:
    for y, strips in enumerate(update.strips, update.region.y):
        x = update.region.x
        for strip in strips:
            yield y, x, strip
            x += strip.cell_length


def _chopped(update: ChopsUpdate) -> Iterator[tuple[int, int, Iterable[Segment]]]:
    touched: dict[int, list[tuple[int, int]]] = {}
    for y, x1, x2 in update.spans:
        touched.setdefault(y, []).append((x1, x2))
    for y, spans in touched.items():
        chops: Mapping[int, Iterable[Segment] | None] = update.chops[y]
        for end, (x, strip) in zip(update.chop_ends[y], chops.items(), strict=False):
            if strip is not None and any(x < x2 and end > x1 for x1, x2 in spans):
                yield y, x, strip


# ------------------------------------------------------------------------------------------ cells


@lru_cache(maxsize=4096)
def codes_of(style: Style, system: ColorSystem | None) -> Codes:
    """What a style is on a terminal of so many colours; nothing at all where there are none."""
    if system is None:
        return PLAIN
    foreground, background = (
        ";".join(color.downgrade(system).get_ansi_codes(is_front)) if color is not None else ""
        for color, is_front in ((style.color, True), (style.bgcolor, False))
    )
    switches = {
        "1": style.bold, "2": style.dim, "3": style.italic, "4": style.underline,
        "5": style.blink, "7": style.reverse, "9": style.strike, "53": style.overline,
    }  # fmt: skip
    return foreground, background, tuple(code for code, is_on in switches.items() if is_on)


@lru_cache(maxsize=4096)
def _of_blanks(look: Codes) -> Codes:
    """What of a look a blank shows: nobody sees the colour in which it is written."""
    if _VISIBLE_ON_BLANKS.intersection(look[2]):
        return look
    return ("", look[1], ())


def _cells(text: str) -> list[str]:
    """One string for each column: with its marks; empty for the second one of a wide character."""
    if text.isascii():
        return list(text)
    cells: list[str] = []
    for char in text:
        columns = char_width(char)
        if columns:
            cells += [char, ""][:columns]
        elif cells:
            cells[-1 if cells[-1] else -2] += char
    return cells


# --------------------------------------------------------------------------------- runs, and moves


def _suits(look: Codes, blank: Codes) -> bool:
    """Whether blanks that look like `blank` may be written in `look`."""
    return look[1] == blank[1] and not _VISIBLE_ON_BLANKS.intersection((*look[2], *blank[2]))


def _runs(
    y: int, columns: Iterable[int], shown: Sequence[str | None], codes: Sequence[Codes]
) -> list[Run]:
    """Changed columns of a row as runs: blanks with the words beside them, small gaps bridged."""
    runs: list[Run] = []
    end = 0
    for x in columns:
        if shown[x] == "":
            continue  # it has come with the first half of its character
        char, its = shown[x] or " ", codes[x]
        n = 2 if x + 1 < len(shown) and shown[x + 1] == "" else 1
        last = runs[-1] if runs else None
        if last is not None and x - end <= _GAP:
            look = its if last.is_blank else last.codes
            between = range(end, x)
            if all(
                c == look or (is_blank and _suits(look, c))
                for c, is_blank in (
                    (last.codes, last.is_blank),
                    *((codes[i], shown[i] == " ") for i in between),
                    (its, char == " "),
                )
            ) and None not in (shown[i] for i in between):
                last.text += "".join(shown[i] or "" for i in between) + char
                last.codes, last.is_blank = look, last.is_blank and char == " "
                end = x + n
                last.n = end - last.x
                continue
        runs.append(Run(y, x, n, char, its, char == " "))
        end = x + n
    return runs


def _erased(blanks: re.Match[str]) -> str:
    n = len(blanks[0])
    return f"\x1b[{n}X\x1b[{n}C"


def _moved(at: tuple[int, int] | None, y: int, x: int) -> str:
    """The shortest way of the cursor to a cell."""
    if at == (y, x):
        return ""
    ways = [f"\x1b[{y + 1};{x + 1}H"]
    if at is not None:
        across = _steps(x - at[1], "C", "D")
        if at[0] == y:
            ways.append(across)
        else:
            down = _steps(y - at[0], "B", "A")
            ways += [down + across, f"{down}\r{_steps(x, 'C', 'D')}"]
    return min(ways, key=len)


def _steps(n: int, forward: str, back: str) -> str:
    if not n:
        return ""
    if -4 <= n < 0 and back == "D":
        return "\b" * -n
    if 1 <= n <= 3 and forward == "B":
        return "\v" * n  # as a line feed, which a tty would turn into more
    return f"\x1b[{'' if abs(n) == 1 else abs(n)}{forward if n > 0 else back}"


@lru_cache(maxsize=4096)
def _switched(old: Codes, new: Codes) -> str:
    """The shortest change from one look to another."""
    if old == new:
        return ""
    anew = ["0", *new[2], *(code for code in new[:2] if code)]
    off = list(dict.fromkeys(_OFF[a] for a in old[2] if a not in new[2]))
    lost = {a for a in new[2] if _OFF[a] in off}
    changed = off + [a for a in new[2] if a not in old[2] or a in lost]
    for code, before, default in ((new[0], old[0], "39"), (new[1], old[1], "49")):
        if code != before:
            changed.append(code or default)
    ways = (anew if new != PLAIN else [""], changed)
    return min((f"\x1b[{';'.join(way)}m" for way in ways), key=len)

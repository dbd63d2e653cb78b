"""Fewer bytes, the same screen: what a terminal then shows is compared cell by cell."""

from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style

from circuit_client.render.text_width import char_width
from circuit_tui.wire import PLAIN, Wire, codes_of
from small_terminal import SmallTerminal

WIDTH, HEIGHT = 14, 4
PAPER = Color.from_rgb(1, 2, 3)
COLORS = st.one_of(
    st.none(),
    st.sampled_from(["red", "bright_blue", "color(214)"]).map(Color.parse),
    st.sampled_from([(0, 0, 0), (255, 200, 110), (1, 2, 3)]).map(lambda c: Color.from_rgb(*c)),
)
STYLES = st.builds(
    lambda color, back, bold, faint, under: Style(
        color=color, bgcolor=back, bold=bold or None, dim=faint or None, underline=under or None
    ),
    *(COLORS, COLORS, st.booleans(), st.booleans(), st.booleans()),
)
TEXTS = st.one_of(
    st.text(st.sampled_from("ab ×⣿漢"), max_size=8), st.integers(0, WIDTH).map(lambda n: " " * n)
)
ROWS = st.lists(st.builds(Segment, TEXTS, STYLES), max_size=4).map(lambda row: _cut(row))
FRAMES = st.lists(
    st.lists(st.tuples(st.integers(0, HEIGHT - 1), ROWS), max_size=5), min_size=1, max_size=5
)


def _cut(row: list[Segment]) -> list[Segment]:
    """A row of exactly the terminal's width, as Textual makes them."""
    room, cut = WIDTH, []
    for segment in row:
        text = ""
        for char in segment.text:
            if char_width(char) <= room:
                text, room = text + char, room - char_width(char)
        cut.append(Segment(text, segment.style))
    return [*cut, Segment(" " * room, Style(bgcolor=PAPER))]


def _expected(row: list[Segment], system: ColorSystem | None) -> list[tuple[str, object]]:
    cells: list[tuple[str, object]] = []
    for text, style, _ in row:
        foreground, background, attributes = codes_of(style, system) if style else PLAIN
        for char in text:
            seen = frozenset(attributes)
            if char == " ":  # of a blank nobody sees more than what lies behind, and lines
                seen &= {"4"}
            look = (foreground if char != " " or seen else "", background, seen)
            if char == " " and seen:
                look = (foreground, background, frozenset(attributes))
            cells.append((char, look))
            cells += [("", look)] * (char_width(char) - 1)
    return cells


@given(FRAMES, st.sampled_from([ColorSystem.TRUECOLOR, ColorSystem.STANDARD, None]), st.booleans())
def test_a_terminal_shows_each_frame_as_it_was_meant(
    frames: list[list[tuple[int, list[Segment]]]], system: ColorSystem | None, erases: bool
) -> None:
    wire, terminal = Wire(erases=erases), SmallTerminal(WIDTH, HEIGHT)
    wire.resize(WIDTH, HEIGHT)
    meant: dict[int, list[tuple[str, object]]] = {}
    for frame in frames:
        terminal.feed(wire.write([(y, 0, row) for y, row in frame], system))
        meant |= {y: _expected(row, system) for y, row in frame}
        for y, cells in meant.items():
            assert terminal.row(y) == cells


def test_what_is_shown_already_is_not_sent_again() -> None:
    wire = Wire()
    wire.resize(WIDTH, HEIGHT)
    row = [Segment("a", Style(color="red")), Segment(" b")]
    assert wire.write([(0, 0, row)], ColorSystem.STANDARD) == "\x1b[0m\x1b[1;1H\x1b[31ma \x1b[mb"
    assert wire.write([(0, 0, row)], ColorSystem.STANDARD) == ""
    moved = [Segment("a", Style(color="red")), Segment(" c")]
    assert wire.write([(0, 0, moved)], ColorSystem.STANDARD) == "\x1b[1;3Hc"


def test_all_of_it_is_sent_to_a_terminal_of_another_size_and_when_asked_for() -> None:
    wire = Wire()
    row = [(0, 0, [Segment("ab")])]
    wire.resize(WIDTH, HEIGHT)
    assert "ab" in wire.write(row, None)
    wire.resize(WIDTH, HEIGHT)
    assert wire.write(row, None) == ""
    wire.resize(WIDTH + 1, HEIGHT)
    assert "ab" in wire.write(row, None)
    wire.forget()
    assert "ab" in wire.write(row, None)


def test_a_colour_is_said_once_for_all_that_has_it() -> None:
    wire = Wire()
    wire.resize(WIDTH, HEIGHT)
    gold, sea = Style(color="#ffc86e"), Style(color="#1e5a90")
    rows = [(y, 0, [Segment("g", gold), Segment("s", sea)]) for y in range(HEIGHT)]
    sent = wire.write(rows, ColorSystem.TRUECOLOR)
    assert sent.count("38;2;255;200;110") == 1
    assert sent.count("38;2;30;90;144") == 1


def test_whoever_writes_next_writes_plainly() -> None:
    wire = Wire()
    wire.resize(WIDTH, HEIGHT)
    wire.write([(0, 0, [Segment("a", Style(bold=True))])], ColorSystem.STANDARD)
    assert wire.leave() == "\x1b[0m"


def test_without_colours_only_the_text_is_said() -> None:
    wire = Wire()
    wire.resize(WIDTH, HEIGHT)
    segments = [Segment("a", Style(color="red", bold=True)), Segment("b")]
    assert wire.write([(0, 0, segments)], None) == "\x1b[0m\x1b[1;1Hab"

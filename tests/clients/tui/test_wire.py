"""Fewer bytes, the same screen: what a terminal shows after each is compared cell by cell."""

import re

from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style

from circuit_tui.wire import said

COLORS = st.one_of(
    st.none(),
    st.sampled_from(["red", "bright_blue", "color(214)"]).map(Color.parse),
    st.tuples(*[st.integers(0, 255)] * 3).map(lambda c: Color.from_rgb(*c)),
)
STYLES = st.builds(
    lambda color, back, bold, under: Style(
        color=color, bgcolor=back, bold=bold or None, underline=under or None
    ),
    *(COLORS, COLORS, st.booleans(), st.booleans()),
)
SEGMENTS = st.lists(
    st.builds(Segment, st.sampled_from(["a", " ", "  ", "heat ", "×"]), STYLES, st.none()),
    max_size=8,
)


def cells(data: str) -> list[tuple[str, frozenset[str]]]:
    """A terminal in a few lines: each character with the codes in force, blanks by what shows."""
    state: dict[str, str] = {}
    found: list[tuple[str, frozenset[str]]] = []
    for match in re.finditer(r"\x1b\[([\d;]*)m|(.)", data):
        if match[2] is not None:
            visible = dict(state)
            if match[2] == " " and "4" not in state:
                visible = {k: v for k, v in state.items() if k == "back"}
            found.append((match[2], frozenset(visible.items())))
            continue
        codes = match[1].split(";") if match[1] else ["0"]
        while codes:
            code = codes.pop(0)
            if code == "0":
                state = {}
            elif code in ("38", "48"):
                n = 2 if codes[0] == "5" else 4
                state["front" if code == "38" else "back"] = ";".join(codes[:n])
                del codes[:n]
            elif code in ("1", "4"):
                state[code] = code
            else:
                is_front = code[0] in "39" and len(code) == 2
                state["front" if is_front else "back"] = code
    assert not state  # what comes after begins plain
    return found


@given(SEGMENTS, st.sampled_from([ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT]))
def test_a_terminal_shows_the_same(segments: list[Segment], system: ColorSystem) -> None:
    usual = "".join(
        s.style.render(s.text, color_system=system) if s.style else s.text for s in segments
    )
    assert cells(said(segments, system)) == cells(usual)


def test_what_stays_is_not_said_again() -> None:
    paper = Color.from_rgb(1, 2, 3)
    words = [
        Segment("a", Style(color=Color.from_rgb(9, 9, 9), bgcolor=paper)),
        Segment("   ", Style(color=Color.from_rgb(7, 7, 7), bgcolor=paper)),
        Segment("b", Style(color=Color.from_rgb(8, 8, 8), bgcolor=paper)),
    ]
    expected = "\x1b[38;2;9;9;9;48;2;1;2;3ma   \x1b[38;2;8;8;8mb\x1b[0m"
    assert said(words, ColorSystem.TRUECOLOR) == expected


def test_without_colours_only_the_text_is_said() -> None:
    segments = [Segment("a", Style(color="red", bold=True)), Segment("b")]
    assert said(segments, None) == "ab"

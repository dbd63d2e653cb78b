"""Colours at every depth, glyphs and their ASCII twins, tokens laid out in lines."""

import itertools
import unicodedata
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem

from circuit_client.render.heat import LEVELS, Scale
from circuit_client.render.style import Depth, Theme
from circuit_client.render.text_width import width
from circuit_tui.paint.glyphs import Glyphs, bar, glyphs
from circuit_tui.paint.look import Look, detect_look
from circuit_tui.paint.palette import N_HUES, dim, heat, hue, selected
from circuit_tui.paint.tokens import lay_out

DEPTHS: tuple[Depth, ...] = ("truecolor", "256", "16", "none")
THEMES: tuple[Theme, ...] = ("dark", "light")
LOOKS = [Look(depth, theme) for depth in DEPTHS for theme in THEMES]
COLORED = [look for look in LOOKS if look.depth != "none"]
SYSTEMS = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
}


def as_sent(style, look):
    """The colours of a style as a terminal of this depth gets them."""
    system = SYSTEMS[look.depth]
    return tuple(
        None if color is None else color.downgrade(system) for color in (style.color, style.bgcolor)
    )


# ------------------------------------------------------------------------------------- look


@pytest.mark.parametrize(
    ("environment", "choice", "depth"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "auto", "truecolor"),
        ({"TERM": "xterm-256color"}, "auto", "256"),  # what is left of it over SSH
        ({"TERM": "xterm-256color"}, "truecolor", "truecolor"),
        ({"TERM": "xterm"}, "auto", "16"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "auto", "none"),
        ({"COLORTERM": "truecolor"}, "none", "none"),
    ],
)
def test_the_depth_is_what_the_terminal_says_unless_chosen(environment, choice, depth) -> None:
    assert detect_look(environment, choice).depth == depth


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({"LANG": "en_US.UTF-8"}, False),
        ({}, False),
        ({"LC_ALL": "C"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"TERM": "linux", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "de_DE.ISO-8859-1"}, False),
    ],
)
def test_ascii_where_the_terminal_has_nothing_else(environment, ascii_only) -> None:
    assert detect_look(environment).ascii_only == ascii_only


# ------------------------------------------------------------------------------------ palette


@pytest.mark.parametrize("look", COLORED, ids=str)
def test_signs_are_told_apart_and_levels_as_far_as_there_are_colours(look: Look) -> None:
    colors = heat(look)
    levels = [*range(-colors.levels, 0), *range(1, colors.levels + 1)]
    sent = {level: as_sent(colors.background(level), look)[1] for level in levels}
    assert not {sent[n] for n in levels if n < 0} & {sent[n] for n in levels if n > 0}
    assert len(set(sent.values())) == (4 if look.depth == "16" else len(levels))
    letters = {level: as_sent(colors.letter(level), look)[0] for level in levels}
    assert not {letters[n] for n in levels if n < 0} & {letters[n] for n in levels if n > 0}


@pytest.mark.parametrize("look", COLORED, ids=str)
def test_a_terminal_of_this_depth_has_nothing_to_round(look: Look) -> None:
    colors = heat(look)
    for level in range(-colors.levels, colors.levels + 1):
        for style in (colors.background(level), colors.letter(level)):
            for exact, sent in zip((style.color, style.bgcolor), as_sent(style, look), strict=True):
                # Black and white letters are among the sixteen under another RGB: not of the heat.
                if exact is None or exact.triplet in ((0, 0, 0), (255, 255, 255)):
                    continue
                again = sent.get_truecolor() if look.depth != "16" else None
                if look.depth == "256":
                    assert again == exact.triplet
                if look.depth == "truecolor":
                    assert sent == exact


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_signs_say_the_same_at_every_depth(look: Look) -> None:
    scale = Scale("diverging", 2.0)
    colors = heat(look)
    signs = [colors.sign(colors.level(v, scale), signed=True) for v in (-2, -1, 0, 0.01, 1, 2)]
    assert signs[0] == "⁻⁹"
    assert signs[2] == ""
    assert signs[-1] == "⁺⁹"
    assert signs[1][0] == "⁻"
    assert signs[4][0] == "⁺"


@pytest.mark.parametrize("look", LOOKS, ids=str)
@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=20))
def test_levels_grow_with_values_and_never_leave_the_scale(look: Look, values) -> None:
    colors, scale = heat(look), Scale("diverging", 1.0)
    levels = colors.levels_of(values, scale)
    assert np.abs(levels).max(initial=0) <= colors.levels
    for (a, x), (b, y) in itertools.combinations(zip(values, levels.tolist(), strict=True), 2):
        if a <= b:
            assert x <= y
    assert [colors.digit(n) for n in (-colors.levels, 0, colors.levels)] == [-LEVELS, 0, LEVELS]
    assert colors.levels_of(values, Scale("sequential", 1.0)).min(initial=0) >= 0


def test_without_colours_nothing_has_one() -> None:
    look = Look("none")
    styles = [*heat(look).backgrounds, *heat(look).letters, dim(look), selected(look), hue(look, 1)]
    assert all(style.color is None and style.bgcolor is None for style in styles)
    assert selected(look).reverse


@pytest.mark.parametrize("look", COLORED, ids=str)
def test_hues_of_series_differ(look: Look) -> None:
    assert len({as_sent(hue(look, i), look) for i in range(N_HUES)}) == N_HUES


# ------------------------------------------------------------------------------------- glyphs


def test_every_glyph_has_an_ascii_twin_of_its_length_and_all_are_one_column() -> None:
    plain, rich = glyphs(Look(ascii_only=True)), glyphs(Look())
    for field in fields(Glyphs):
        ours, theirs = ("".join(getattr(set_, field.name)) for set_ in (plain, rich))
        assert ours.isascii(), field.name
        assert len(ours) == len(theirs) == width(theirs), field.name
        assert all(unicodedata.east_asian_width(c) not in "WF" for c in theirs), field.name


@pytest.mark.parametrize("ascii_only", [False, True])
@given(st.floats(), st.integers(0, 40))
def test_a_bar_takes_exactly_its_columns(ascii_only: bool, share: float, columns: int) -> None:
    look = Look(ascii_only=ascii_only)
    assert width(bar(share, columns, look)) == columns
    assert bar(1.0, columns, look) == glyphs(look).full * columns
    assert not bar(0.0, columns, look).strip()


# ------------------------------------------------------------------------------------- tokens

tokens = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from([b"a", b" b", "你好".encode(), b"\n", b"\x1b[31m", "e\u0301".encode()]),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(tokens, st.integers(1, 30), st.booleans())
def test_every_token_is_on_one_line_within_the_width_and_found_again(data, columns, plain) -> None:
    text = lay_out(data, columns, ascii_only=plain)
    assert [t.index for row in range(text.rows) for t in text.line(row)] == list(range(len(data)))
    for placed in text.placed:
        assert placed.columns == width(placed.text) > 0
        assert placed.column + placed.columns <= max(columns, 2)  # a wide one in a column of one
        assert text.at(placed.row, placed.column) == placed.index
        assert text.at(placed.row, placed.column + placed.columns - 1) == placed.index
        assert not any(unicodedata.category(c).startswith("C") for c in placed.text)
    for row in range(text.rows):
        ends = [(t.column, t.column + t.columns) for t in text.line(row)]
        assert ends[0][0] == 0
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))


def test_lines_end_where_the_text_does() -> None:
    text = lay_out([b"a", b"\n", b"b", b"\n", b"\n"], 20)
    assert [[t.text for t in text.line(row)] for row in range(text.rows)] == [
        ["a", "↵"],
        ["b", "↵"],
        ["↵"],
    ]


def test_markup_in_tokens_is_text() -> None:
    assert [t.text for t in lay_out([b"[red]x[/]"], 20).placed] == ["[red]x[/]"]


def test_beside_the_text_there_is_no_token_but_a_nearest_one() -> None:
    text = lay_out([b"abc", b"\n", b"d"], 20)
    assert text.at(0, 10) is None
    assert text.at(5, 0) is None
    assert text.nearest(0, 10) == 1
    assert text.nearest(9, 0) == 2
    assert lay_out([], 20).nearest(0, 0) is None

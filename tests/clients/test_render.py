"""From data to styled text: widths, colours, heatmaps, tables."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_client.render import heat, progress, style, table, text_width
from circuit_client.render.style import Depth, Span, Theme
from circuit_protocol.replies import Progress

DEPTHS: tuple[Depth, ...] = ("truecolor", "256", "16", "none")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


# ------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("你好", 4), ("é", 1), ("e\u0301", 1), ("", 0), ("ｱ", 1)]
)
def test_width_in_columns(text: str, columns: int) -> None:
    assert text_width.width(text) == columns


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"a b", "a b"),
        (b"x\n", "x↵"),
        (b"\t", "→"),
        (b"\x1b[31m", "␛[31m"),
        (b"\x00\x07", "␀␇"),
        ("\u202eabc".encode(), "\\u202eabc"),
        ("\u200b".encode(), "\\u200b"),
        ("\u00a0".encode(), "⍽"),
        (b"\xe4\xbd", "\\xe4\\xbd"),
        (b"a\xffb", "a\\xffb"),
        ("你".encode(), "你"),
    ],
)
def test_tokens_are_shown_as_they_are(data: bytes, shown: str) -> None:
    assert text_width.shown_bytes(data) == shown


@settings(max_examples=50, deadline=None)
@given(st.binary())
def test_nothing_shown_is_obeyed_by_a_terminal(data: bytes) -> None:
    shown = text_width.shown_bytes(data)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    assert text_width.shown_bytes(data, ascii_only=True).isascii()


@settings(max_examples=50, deadline=None)
@given(st.text(), st.integers(0, 20))
def test_truncated_text_fits(text: str, columns: int) -> None:
    visible = text_width.shown(text)
    cut = text_width.truncate(visible, columns)
    assert text_width.width(cut) <= columns
    assert cut == visible or cut.endswith("…") or columns == 0


# ----------------------------------------------------------------------------------- colours


@pytest.mark.parametrize(
    ("environment", "terminal", "choice", "depth"),
    [
        ({"COLORTERM": "truecolor", "TERM": "xterm-256color"}, True, "auto", "truecolor"),
        ({"TERM": "xterm-256color"}, True, "auto", "256"),
        ({"TERM": "tmux-256color"}, True, "auto", "256"),
        ({"TERM": "linux"}, True, "auto", "16"),
        ({"TERM": "dumb"}, True, "auto", "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, "auto", "none"),
        ({"TERM": "xterm-256color"}, False, "auto", "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, "always", "256"),
        ({"TERM": "dumb"}, False, "truecolor", "truecolor"),
        ({"COLORTERM": "truecolor"}, True, "never", "none"),
    ],
)
def test_how_many_colours_there_are(
    environment: dict, terminal: bool, choice: str, depth: str
) -> None:
    found = style.detect_depth(environment, is_terminal=terminal, choice=choice)  # pyright: ignore
    assert found == depth


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_levels_stay_apart_with_256_colours_and_grow_away_from_the_background(
    theme: Theme,
) -> None:
    levels = [n for n in range(-heat.LEVELS, heat.LEVELS + 1) if n]
    colors = {n: heat.level_color(n, theme) for n in levels}
    assert len({style.nearest_256(c) for c in colors.values() if c}) == len(levels)
    for sign in (-1, 1):
        luminances = [luminance(colors[sign * n]) for n in range(1, heat.LEVELS + 1)]
        assert luminances == sorted(luminances, reverse=theme == "light")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_letters_can_be_read_on_every_colour(theme: Theme) -> None:
    for level in range(-heat.LEVELS, heat.LEVELS + 1):
        color = heat.level_color(level, theme)
        if color is None:
            continue
        behind, letters = luminance(color), luminance(style.letters_on(color))
        contrast = (max(behind, letters) + 0.05) / (min(behind, letters) + 0.05)
        assert contrast >= 4.5, (level, contrast)  # WCAG AA


def luminance(rgb: tuple[int, int, int] | None) -> float:
    assert rgb is not None
    parts = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_256_colours_have_the_terminals_numbers() -> None:
    assert [style.nearest_256(style.cube_color(n)) for n in range(16, 232)] == list(range(16, 232))
    assert style.nearest_256((118, 118, 118)) == 243


# ----------------------------------------------------------------------------------- heatmaps


TOKENS = [b"if", b" x", b":\n", b"    ", b"y"]
VALUES = [0.0, 1.0, -4.0, 2.0, float("nan")]


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_shows_the_same_text(depth: Depth) -> None:
    scale = heat.scale_for(VALUES, "diverging")
    painted = style.paint(heat.token_heatmap(TOKENS, VALUES, scale, columns=80, depth=depth), depth)
    text = ESCAPE.sub("", painted)
    assert re.sub("[⁺⁻⁰-⁹²³¹⟦⟧]", "", text) == "if x:↵\n    y\n"
    assert ("\x1b" in painted) == (depth != "none")


@pytest.mark.parametrize("depth", ["16", "none"])
def test_where_colours_are_few_signs_and_digits_say_the_level(depth: Depth) -> None:
    scale = heat.scale_for(VALUES, "diverging")
    lines = heat.token_heatmap(TOKENS, VALUES, scale, columns=80, depth=depth)
    assert "".join(s.text for line in lines for s in line) == "if x⁺²⟦:↵⟧⁻⁹    ⁺⁴y"
    ascii_lines = heat.token_heatmap(
        TOKENS, VALUES, scale, columns=80, depth=depth, ascii_only=True
    )
    assert "".join(s.text for line in ascii_lines for s in line) == "if x+2[:\\n]-9    +4y"


def test_the_strongest_token_is_framed_and_marked() -> None:
    scale = heat.scale_for(VALUES, "diverging")
    lines = heat.token_heatmap(TOKENS, VALUES, scale, columns=80, depth="truecolor")
    marked = [s for line in lines for s in line if s.underline]
    assert [s.text for s in marked] == ["⟦:↵⟧"]


def test_the_scale_is_the_same_on_both_sides_of_zero() -> None:
    scale = heat.scale_for([-1.0, 4.0], "diverging")
    assert (scale.level(4.0), scale.level(-4.0), scale.level(-1.0)) == (9, -9, -2)
    assert scale.level(0.0) == 0
    assert scale.level(float("nan")) == 0
    assert heat.scale_for([], "diverging").level(1.0) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=8), st.floats()), max_size=30), st.integers(10, 60))
def test_heatmaps_take_any_tokens_and_numbers(pairs: list, columns: int) -> None:
    tokens, values = [p[0] for p in pairs], [p[1] for p in pairs]
    scale = heat.scale_for(values, "diverging")
    for depth in DEPTHS:
        lines = heat.token_heatmap(tokens, values, scale, columns=columns, depth=depth)
        # A line is longer than the terminal only if a single token is.
        assert all(
            style.line_width(line) <= columns or len([s for s in line if s.text]) == 1
            for line in lines
        )
        heat.legend(scale, depth=depth)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_legend_says_what_the_colours_mean(depth: Depth) -> None:
    line = heat.legend(heat.Scale("diverging", 3.25, "nats"), depth=depth)
    text = "".join(span.text for span in line)
    assert text.startswith("-3.25 ")
    assert text.endswith(" 3.25 nats")


# ------------------------------------------------------------------------------------ tables


def test_columns_align_by_width_and_not_by_length() -> None:
    lines = table.table(
        [table.Column("name"), table.Column("n", "right")],
        [("你好", "1"), ("abc", Span("22", color="good"))],
        width_max=40,
    )
    assert [style.line_width(line) for line in lines] == [8, 8, 8]
    assert style.paint(lines, "none") == "name   n\n你好   1\nabc   22\n"


def test_what_may_shrink_gives_up_room() -> None:
    columns = [table.Column("a", shrink=True), table.Column("b")]
    lines = table.table(columns, [("x" * 50, "y" * 20)], width_max=40)
    assert table.widest(lines) == 40
    assert "…" in style.paint(lines, "none")


@settings(max_examples=50, deadline=None)
@given(st.floats(), st.floats(0, 1e6), st.integers(3, 40))
def test_bars_stay_in_their_columns(value: float, limit: float, columns: int) -> None:
    assert text_width.width(table.bar(value, limit, columns)) <= columns
    assert text_width.width(table.two_sided_bar(value, limit, columns)) <= columns


def test_a_full_and_a_half_bar() -> None:
    assert table.bar(1.0, 1.0, 4) == "████"
    assert table.bar(0.5, 1.0, 3) == "█▌"
    assert table.two_sided_bar(-1.0, 1.0, 9) == "████│"
    assert table.two_sided_bar(1.0, 1.0, 9) == "    │████"


def test_sizes_and_times_for_people() -> None:
    assert [table.nbytes(n) for n in (0, 1023, 1536, 3 << 30)] == [
        "0 B", "1023 B", "1.5 KiB", "3.0 GiB",
    ]  # fmt: skip
    assert [table.duration(s) for s in (0.01, 5, 65, 3700, 10**6)] == [
        "10 ms", "5.0 s", "1 min 05 s", "1 h 01 min", "11 days",
    ]  # fmt: skip


def test_progress_says_how_far() -> None:
    line = progress.progress_line(
        Progress(id="x", stage="ablate", done=5, total=10, unit="masks", eta_s=3.0), 80
    )
    assert line == "ablate  [██████████          ]  50%  5/10 masks  3.0 s left"
    assert progress.progress_line(Progress(id="x", stage="load"), 80) == "load"
    line = progress.progress_line(
        Progress(id="x", stage="seeds, 2 of 4", done=12.345, total=100, unit="%"), 80
    )
    assert line == "seeds, 2 of 4  [██▌                 ]  12%"

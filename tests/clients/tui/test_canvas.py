"""Cells, braille, viewports, graphs and heatmaps as arrays, without a terminal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.style import Style

from circuit_client.render.heat import Scale
from circuit_client.render.text_width import char_width
from circuit_tui.canvas.blocks import (
    Grid,
    draw_digits,
    draw_half_blocks,
    fewest_blocks,
    summarised,
)
from circuit_tui.canvas.braille import DOTS_X, DOTS_Y, Braille, clip_segments, trace
from circuit_tui.canvas.cells import GAP, Cells, Inks, changed_regions
from circuit_tui.canvas.graph import (
    Graph,
    draw_edges,
    draw_labels,
    draw_nodes,
    edge_at,
    next_node,
    node_at,
)
from circuit_tui.canvas.viewport import Viewport
from circuit_tui.paint.look import Look
from circuit_tui.paint.palette import heat

sizes = st.tuples(st.integers(1, 40), st.integers(1, 20))
coordinates = st.floats(-1e4, 1e4)
segments = st.lists(st.tuples(*[coordinates] * 4), max_size=12)

# -------------------------------------------------------------------------------------- cells


@st.composite
def two_pictures(draw):
    width, height = draw(sizes)
    before = Cells(width, height)
    changes = draw(
        st.lists(
            st.tuples(st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 2)),
            max_size=60,
        )
    )
    after = Cells(width, height)
    for x, y, ink in changes:
        after.put(x, y, "x" if ink else " ", ink)
    return before, after


@settings(max_examples=200, deadline=None)
@given(two_pictures())
def test_changed_regions_hold_exactly_what_changed(pictures) -> None:
    before, after = pictures
    different = (before.chars != after.chars) | (before.inks != after.inks)
    covered = np.zeros_like(different, dtype=int)
    for region in changed_regions(before, after):
        part = different[region.y : region.bottom, region.x : region.right]
        assert part[:, 0].all()
        assert part[:, -1].all()
        for row in part:
            assert np.diff(np.flatnonzero(row)).max(initial=1) <= GAP + 1
        covered[region.y : region.bottom, region.x : region.right] += 1
    assert covered.max(initial=0) <= 1
    assert (covered[different] == 1).all()
    assert changed_regions(after, after) == []


def test_a_picture_of_another_size_differs_everywhere() -> None:
    (region,) = changed_regions(Cells(3, 2), Cells(4, 2))
    assert (region.width, region.height) == (4, 2)
    assert changed_regions(None, Cells(0, 5)) == []


printable = st.text(
    st.characters(exclude_categories=["C", "Z"]).filter(lambda c: char_width(c) < 3), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(
    sizes,
    st.lists(st.tuples(st.integers(-5, 45), st.integers(-2, 22), printable, st.integers(0, 3))),
)
def test_a_strip_is_as_wide_as_its_picture_whatever_was_written(size, writings) -> None:
    cells, inks = Cells(*size), Inks([Style.null(), Style(bold=True), Style(dim=True), Style()])
    for x, y, text, ink in writings:
        cells.text(x, y, text, ink)
    for y, line in enumerate(cells.lines()):
        strip = cells.strip(y, inks)
        assert strip.text == line
        assert "\0" not in line


def test_equal_styles_have_one_ink() -> None:
    inks = Inks()
    assert inks.number(Style.null()) == 0
    assert inks.number(Style(bold=True)) == inks.number(Style(bold=True)) == 1


# ------------------------------------------------------------------------------------- braille


@settings(max_examples=200, deadline=None)
@given(segments, sizes)
def test_what_is_left_of_clipped_segments_lies_inside(lines, size) -> None:
    width, height = size
    clipped, numbers = clip_segments(np.array(lines).reshape(-1, 4), width, height)
    assert len(clipped) == len(numbers)
    assert (clipped >= -1e-6).all()
    assert (clipped[:, 0::2] <= width - 1 + 1e-6).all()
    assert (clipped[:, 1::2] <= height - 1 + 1e-6).all()


@settings(max_examples=200, deadline=None)
@given(segments, st.tuples(st.integers(1, 300), st.integers(1, 200)))
def test_traced_points_are_inside_connected_and_as_many_as_the_longer_side(lines, size) -> None:
    traced = trace(np.array(lines).reshape(-1, 4), *size)
    assert len(traced.x) == traced.counts.sum()
    assert ((traced.x >= 0) & (traced.x < size[0]) & (traced.y >= 0) & (traced.y < size[1])).all()
    start = 0
    for count in traced.counts.tolist():
        x, y = (np.diff(a[start : start + count].astype(int)) for a in (traced.x, traced.y))
        assert (np.maximum(abs(x), abs(y)) == 1).all()
        start += count


@pytest.mark.parametrize(
    "line", [(0, 0, 9, 4), (9, 4, 0, 0), (3, 0, 3, 9), (0, 5, 9, 5), (2, 2, 2, 2), (0, 9, 9, 0)]
)
def test_a_line_has_both_its_ends(line) -> None:
    x, y, _, _ = trace([line], 10, 10)
    assert {(x[0], y[0]), (x[-1], y[-1])} == {line[:2], line[2:]}


def test_not_finite_segments_are_left_out() -> None:
    assert len(trace([(0, 0, np.nan, 3), (0, 0, np.inf, 1)], 10, 10).x) == 0


@pytest.mark.parametrize("ascii_only", [False, True])
@settings(max_examples=50, deadline=None)
@given(segments, sizes, st.integers(-3, 30), st.integers(-3, 10))
def test_a_raster_draws_inside_its_canvas_and_the_same_each_time(
    ascii_only, lines, size, x, y
) -> None:
    pictures = []
    for _ in range(2):
        raster = Braille(*size, ascii_only=ascii_only)
        raster.lines(np.array(lines).reshape(-1, 4), 1, 2)
        cells = Cells(25, 8)
        raster.onto(cells, x, y)
        pictures.append(cells)
    assert changed_regions(*pictures) == []
    for row in pictures[0].lines():
        assert all(c.isascii() if ascii_only else c == " " or "⠀" < c <= "⣿" for c in row)


def test_the_last_line_through_a_cell_has_its_ink() -> None:
    raster = Braille(4, 1)
    raster.lines([(0, 0, 7, 0), (0, 2, 3, 2)], [1, 2])
    cells = Cells(4, 1)
    raster.onto(cells)
    assert cells.inks[0].tolist() == [2, 2, 1, 1]
    assert cells.lines() == ["⠭⠭⠉⠉"]


# ------------------------------------------------------------------------------------ viewport

points = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=20)


@settings(max_examples=200, deadline=None)
@given(points, st.tuples(st.integers(8, 200), st.integers(8, 60)), st.booleans())
def test_a_fitting_view_shows_every_point(places, size, square) -> None:
    cells = Viewport.fitting(places, *size, square=square).cells(places)
    assert (cells >= 0).all()
    assert (cells < size).all()


@settings(max_examples=200, deadline=None)
@given(st.floats(0.1, 10), st.integers(0, 100), st.integers(0, 40))
def test_zooming_keeps_what_is_under_the_cell(factor, column, row) -> None:
    view = Viewport(3.0, -2.0, 1.5, 4.0)
    assert view.zoomed(factor, column, row).place(column, row) == pytest.approx(
        view.place(column, row), abs=1e-6
    )


def test_panning_moves_by_cells_and_back() -> None:
    view = Viewport(0, 0, 2, 2)
    assert (view.panned(3, 2).cells([(10, 10)]) == view.cells([(10, 10)]) - (3, 2)).all()
    assert view.panned(3, 2).panned(-3, -2) == view


@given(st.tuples(coordinates, coordinates))
def test_a_view_moved_to_show_a_point_shows_it(point) -> None:
    view = Viewport(0, 0, 1, 1).moved_to_show(point, 40, 20)
    column, row = view.cells([point])[0]
    assert 0 <= column < 40
    assert 0 <= row < 20
    assert view.moved_to_show(point, 40, 20) == view


# --------------------------------------------------------------------------------------- graph


def chain(n: int = 4) -> Graph:
    """Nodes 0 to n-1 from left to right, each joined with the next."""
    return Graph(
        np.array([(10.0 * i, 0.0) for i in range(n)]),
        "o" * n,
        [f"n{i}" for i in range(n)],
        np.zeros(n, np.intp),
        (Style(bold=True),),
        np.array([(i, i + 1) for i in range(n - 1)]),
        np.arange(n - 1) % 2,
        (Style(dim=True), Style(underline=True)),
        label_order=range(n),
    )


def test_a_node_is_hit_in_its_cell_and_beside_it_and_an_edge_between() -> None:
    graph = chain()
    view = Viewport.fitting(graph.positions, 41, 9)
    for node, (x, y) in enumerate(view.cells(graph.positions).tolist()):
        assert node_at(graph, view, x, y) == node
        assert node_at(graph, view, x, y + 1) == node
        assert node_at(graph, view, x, y + 3) is None
    (x0, y), (x1, _) = view.cells(graph.positions[:2]).tolist()
    assert edge_at(graph, view, (x0 + x1) // 2, y) == 0
    assert edge_at(graph, view, (x0 + x1) // 2, y + 4) is None


def test_stepping_goes_to_the_next_node_that_way() -> None:
    graph, view = chain(), Viewport(0, 0, 1, 1)
    assert next_node(graph, None, 1, 0, view) == 0
    assert [next_node(graph, n, 1, 0, view) for n in range(4)] == [1, 2, 3, None]
    assert next_node(graph, 2, -1, 0, view) == 1
    assert next_node(graph, 2, 0, 1, view) is None


def test_edges_nodes_and_labels_are_drawn_within_the_canvas() -> None:
    graph = chain()
    cells, inks = Cells(24, 5), Inks()
    view = Viewport.fitting(graph.positions, 24, 5)
    draw_edges(graph, view, cells, inks, ascii_only=False)
    at = draw_nodes(graph, view, cells, inks)
    draw_labels(graph, at, cells, inks, [2])
    middle = cells.lines()[2]
    assert middle.count("o") == 4
    assert "on2" in middle
    assert "⠒" in middle or "⠤" in middle or "⠉" in middle


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(2, 60), st.integers(2, 30))
def test_labels_never_cover_nodes_or_one_another(n, width, height) -> None:
    rng = np.random.default_rng(n)
    graph = Graph(
        rng.random((n, 2)) * 20,
        "o" * n,
        [f"<{i}>" for i in range(n)],
        np.zeros(n, np.intp),
        (Style(bold=True),),
        label_order=range(n),
    )
    cells, inks = Cells(width, height), Inks()
    view = Viewport.fitting(graph.positions, width, height, margin=1)
    at = draw_nodes(graph, view, cells, inks)
    draw_labels(graph, at, cells, inks, [])
    for x, y in at.tolist():
        if 0 <= x < width and 0 <= y < height:
            assert cells.lines()[y][x] == "o"
    for line in cells.lines():
        assert line.count("<") == line.count(">")


def test_dots_are_two_by_four_to_a_cell() -> None:
    assert (Viewport().cells([(DOTS_X, DOTS_Y)]) == (1, 1)).all()


# -------------------------------------------------------------------------------------- heatmap

LOOK = Look()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_a_summary_keeps_the_strongest_entry_of_each_block(rows, columns, block) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32)
    small = summarised(values, block)
    for r in range(small.shape[0]):
        for c in range(small.shape[1]):
            part = values[r * block : (r + 1) * block, c * block : (c + 1) * block]
            assert small[r, c] == part.flat[np.abs(part).argmax()]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100), st.integers(1, 50))
def test_blocks_are_as_small_as_fits(rows, columns, width, height) -> None:
    grid = Grid(2, 1)
    block = fewest_blocks((rows, columns), width, height, grid)
    room = grid.visible(width, height)
    assert -(-rows // block) <= room[0]
    assert -(-columns // block) <= room[1]


def test_half_blocks_show_two_rows_in_a_cell() -> None:
    colors, inks, cells = heat(LOOK), Inks(), Cells(4, 2)
    draw_half_blocks(cells, np.array([[9, 0], [9, -9], [0, 3]], np.int16), Grid(2, 1), inks, colors)
    assert cells.lines() == ["  ▄▄", "  ▀▀"]
    same = inks.styles[cells.inks[0, 0]]
    assert same.bgcolor is not None
    assert same.bgcolor.triplet == colors.color(9)


def test_an_entry_is_found_under_each_of_its_cells() -> None:
    grid = Grid(3, 2, 2, 1, 4)
    assert grid.entry_at(0, 0) == (2, 8)
    assert grid.entry_at(5, 3) == (8, 10)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_digits_have_a_sign_where_the_scale_has_two(ascii_only: bool) -> None:
    colors, cells = heat(Look("none", ascii_only=ascii_only)), Cells(9, 1)
    levels = np.array([[9, -4, 0]], np.int16)
    draw_digits(cells, levels, Grid(3, 2), Inks(), colors, Scale("diverging", 1.0))
    assert cells.lines() == [" +9 -4  ." if ascii_only else " +9 -4  ·"]
    cells = Cells(6, 1)
    draw_digits(cells, levels, Grid(2, 2), Inks(), colors, Scale("sequential", 1.0))
    assert cells.lines()[0].startswith(" 9")


def test_where_there_is_only_ascii_every_character_has_a_twin_or_is_asked_about() -> None:
    cells = Cells(8, 1)
    cells.text(0, 0, "a→×漢é")
    cells.to_ascii({"→": ">", "×": "x"})
    assert cells.lines() == ["a>x? ?  "]

"""Canvases, token heat and plots as widgets: keys and mouse, scrolling, what is sent again."""

from collections.abc import Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.message import Message
from textual.pilot import Pilot
from textual.widget import Widget

from circuit_client.render.heat import Scale
from circuit_tui.canvas.graph_canvas import GraphCanvas
from circuit_tui.canvas.heatmap_canvas import HeatmapCanvas
from circuit_tui.paint.look import Look
from circuit_tui.widgets.axes import AxisScale, tick_text
from circuit_tui.widgets.legend import HeatLegend
from circuit_tui.widgets.picture import Picture
from circuit_tui.widgets.plot import Plot, Series
from circuit_tui.widgets.token_heat import TokenHeat

from .test_canvas import chain

PLAIN = Look("none", ascii_only=True)


class Bench(App[None]):
    """One widget that fills the screen; keeps what it said and what it refreshed."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.said: list[Message] = []
        self.refreshed: list[Region] = []

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_mount(self) -> None:
        original: Callable[..., Widget] = self.widget.refresh

        def refresh(*regions: Region, **how: bool) -> Widget:
            self.refreshed.extend(regions)
            return original(*regions, **how)

        self.widget.refresh = refresh

    def on_graph_canvas_picked(self, message: GraphCanvas.Picked) -> None:
        self.said.append(message)

    def on_graph_canvas_hovered(self, message: GraphCanvas.Hovered) -> None:
        self.said.append(message)

    def on_heatmap_canvas_picked(self, message: HeatmapCanvas.Picked) -> None:
        self.said.append(message)

    def on_token_heat_moved(self, message: TokenHeat.Moved) -> None:
        self.said.append(message)

    def on_token_heat_scale_changed(self, message: TokenHeat.ScaleChanged) -> None:
        self.said.append(message)

    def on_plot_read(self, message: Plot.Read) -> None:
        self.said.append(message)


@asynccontextmanager
async def shown(widget: Widget, size: tuple[int, int] = (60, 15)):
    app = Bench(widget)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        app.said.clear()
        app.refreshed.clear()
        yield app, pilot


def screen(pilot: Pilot[None]) -> list[str]:
    """The characters on the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return [strip.text for strip in strips]


# --------------------------------------------------------------------------------------- graph


async def test_moving_the_selection_refreshes_what_changed_and_no_more() -> None:
    async with shown(GraphCanvas(chain(12), look=Look())) as (app, pilot):
        canvas = app.query_one(GraphCanvas)
        canvas.select(3)
        await pilot.pause()
        app.refreshed.clear()
        canvas.select(4)
        await pilot.pause()
        assert 0 < sum(region.area for region in app.refreshed) < 60
        app.refreshed.clear()
        canvas.select(4)
        canvas.redraw()
        assert app.refreshed == []


async def test_a_cursor_that_passes_is_said_to_be_somewhere_when_it_rests() -> None:
    async with shown(Picture(graph=chain(12), look=Look(), id="graph")) as (app, pilot):
        picture = app.query_one(Picture)
        picture.select(3)
        await pilot.pause()
        app.refreshed.clear()
        picture.action_step(1, 0)
        assert picture.selected == 4
        assert 0 < sum(region.area for region in app.refreshed) < 40
        assert app.said == []
        assert picture.rest() == 4
        assert picture.rest() is None  # it has
        picture.action_step(1, 0)
        while not app.said:
            await pilot.pause(0.02)
        assert [m.node for m in app.said if isinstance(m, GraphCanvas.Picked)] == [5]


async def test_a_click_picks_a_node_and_a_drag_pans() -> None:
    async with shown(GraphCanvas(chain())) as (app, pilot):
        canvas = app.query_one(GraphCanvas)
        x, y = canvas.viewport.cells(canvas.graph.positions)[2].tolist()
        await pilot.click(GraphCanvas, offset=(x, y))
        assert canvas.selected == 2
        assert [m.node for m in app.said if isinstance(m, GraphCanvas.Picked)] == [2]
        before = canvas.viewport
        await pilot.mouse_down(GraphCanvas, offset=(x, y))
        await pilot.hover(GraphCanvas, offset=(x + 5, y + 1))
        await pilot.mouse_up(GraphCanvas, offset=(x + 5, y + 1))
        assert canvas.selected == 2
        assert canvas.viewport.cells(canvas.graph.positions)[2].tolist() in ([x + 5, y + 1], [x, y])
        canvas.fit()
        assert canvas.viewport == before


async def test_stepping_and_zooming_keep_the_selected_node_in_sight() -> None:
    async with shown(GraphCanvas(chain(12))) as (app, pilot):
        canvas = app.query_one(GraphCanvas)
        canvas.step(1, 0)
        for _ in range(3):
            canvas.zoom(2.0)
        for _ in range(5):
            canvas.step(1, 0)
        await pilot.pause()
        assert canvas.selected == 5
        assert [m.node for m in app.said if isinstance(m, GraphCanvas.Picked)] == [0, 1, 2, 3, 4, 5]
        x, y = canvas.viewport.cells(canvas.graph.positions)[5].tolist()
        assert 0 <= x < 60
        assert 0 <= y < 15


async def test_a_graph_in_ascii_is_ascii_also_after_a_change_of_look() -> None:
    async with shown(GraphCanvas(chain(), look=Look())) as (app, pilot):
        assert not all(line.isascii() for line in screen(pilot))
        app.query_one(GraphCanvas).look = PLAIN
        await pilot.pause()
        assert all(line.isascii() for line in screen(pilot))
        assert any("-" in line for line in screen(pilot))


async def test_an_empty_graph_and_no_room_are_no_error() -> None:
    async with shown(GraphCanvas()) as (app, pilot):
        canvas = app.query_one(GraphCanvas)
        canvas.step(1, 0)
        canvas.zoom(2)
        assert canvas.hit(3, 3) == (None, None)
        await pilot.resize_terminal(1, 1)
        canvas.show(chain())
        await pilot.resize_terminal(40, 10)
        assert canvas.cells.width == 40


# -------------------------------------------------------------------------------------- heatmap


async def test_every_entry_is_hit_where_it_is_shown() -> None:
    async with shown(HeatmapCanvas(), (60, 20)) as (app, pilot):
        canvas = app.query_one(HeatmapCanvas)
        canvas.show(
            np.arange(12).reshape(3, 4),
            row_labels=["a", "b", "long name"],
            column_labels=["p", "q", "r", "s"],
            entry_columns=4,
        )
        await pilot.pause()
        assert screen(pilot)[0].split() == ["p", "q", "r", "s"]
        assert screen(pilot)[3].startswith("long name")
        assert canvas.hit(10, 1) == (0, 0)
        assert canvas.hit(10 + 4 * 3, 3) == (2, 3)
        assert canvas.hit(0, 1) is None
        assert canvas.hit(10, 4) is None
        await pilot.click(HeatmapCanvas, offset=(10 + 4, 2))
        assert canvas.cursor == (1, 1)


async def test_the_cursor_scrolls_a_long_matrix_and_refreshes_little() -> None:
    async with shown(HeatmapCanvas(), (20, 6)) as (app, pilot):
        canvas = app.query_one(HeatmapCanvas)
        canvas.show(
            np.random.default_rng(0).random((40, 5)), row_labels=[str(i) for i in range(40)]
        )
        canvas.step(0, 0)
        await pilot.pause()
        app.refreshed.clear()
        canvas.step(1, 0)
        assert 0 < sum(region.area for region in app.refreshed) <= 30
        for _ in range(38):
            canvas.step(1, 0)
        await pilot.pause()
        assert canvas.cursor == (39, 0)
        assert screen(pilot)[5].startswith("39")
        canvas.step(1, 0)
        assert canvas.cursor == (39, 0)


async def test_a_matrix_larger_than_its_room_is_summarised_and_magnified() -> None:
    async with shown(HeatmapCanvas(), (30, 10)) as (app, pilot):
        canvas = app.query_one(HeatmapCanvas)
        values = np.zeros((400, 400))
        values[399, 399] = 1.0
        canvas.show(values)
        await pilot.pause()
        assert any(cell for cell in canvas.cells.inks.ravel())  # the one entry is seen
        canvas.select(399, 399)
        for _ in range(10):
            canvas.zoom(1)
        assert canvas.hit(canvas.size.width - 1, canvas.size.height - 1) is not None
        assert any(cell for cell in canvas.cells.inks.ravel())


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="matrix"):
        HeatmapCanvas().show(np.zeros(3))


# ----------------------------------------------------------------------------------- token heat

WORDS = [b"def", b" f", b"(", b"x", b")", b":", b"\n"]


async def test_the_strongest_token_is_framed_and_the_cursor_moves_by_tokens_and_lines() -> None:
    async with shown(TokenHeat(look=PLAIN), (31, 8)) as (app, pilot):
        heat = app.query_one(TokenHeat)
        heat.show(WORDS * 2, [0, 0, 1, 0, -3, 0, np.nan] * 2)
        await pilot.pause()
        assert screen(pilot)[0].rstrip() == "def f(+3x[)-9]:\\n"
        assert heat.strongest == 4
        heat.step(1)
        heat.step(1)
        heat.step_line(1)
        await pilot.pause()
        assert [m.token for m in app.said if isinstance(m, TokenHeat.Moved)] == [0, 1, 8]
        heat.step(-100)
        assert heat.cursor == 0


async def test_moving_the_cursor_refreshes_two_tokens() -> None:
    async with shown(TokenHeat(), (40, 10)) as (app, pilot):
        heat = app.query_one(TokenHeat)
        heat.show(WORDS * 100, np.arange(700))
        heat.select(1)
        await pilot.pause()
        app.refreshed.clear()
        heat.select(2)
        assert sorted(region.width for region in app.refreshed) == [1, 2]


async def test_the_cursor_scrolls_into_sight() -> None:
    async with shown(TokenHeat(look=PLAIN), (31, 8)) as (app, pilot):
        heat = app.query_one(TokenHeat)
        heat.show([str(i).encode() + b"\n" for i in range(100)])
        heat.select(60)
        await pilot.pause()
        assert any("60" in line for line in screen(pilot))
        row = next(y for y, line in enumerate(screen(pilot)) if "60" in line)
        assert heat.token_at(0, row) == 60


async def test_zero_centred_or_not_is_another_scale() -> None:
    async with shown(TokenHeat(look=PLAIN), (40, 5)) as (app, pilot):
        heat = app.query_one(TokenHeat)
        heat.show([b"a", b"b", b"c"], [-4, 1, 2], unit="nats")
        assert heat.scale == Scale("diverging", 4.0, "nats")
        heat.zero_centred = False
        await pilot.pause()
        assert heat.scale == Scale("sequential", 2.0, "nats")
        assert screen(pilot)[0].rstrip() == "[a]b4c9"
        assert [m.scale for m in app.said if isinstance(m, TokenHeat.ScaleChanged)][
            -1
        ] == heat.scale


async def test_a_click_moves_the_cursor_and_a_second_one_chooses() -> None:
    async with shown(TokenHeat(), (40, 5)) as (app, pilot):
        heat = app.query_one(TokenHeat)
        heat.show([b"one", b" two"], [1, 2])
        await pilot.pause()
        for _ in range(2):
            await pilot.click(TokenHeat, offset=(4, 0))
        assert [(m.token, m.chosen) for m in app.said if isinstance(m, TokenHeat.Moved)] == [
            (1, False),
            (1, True),
        ]


async def test_fewer_tokens_take_the_cursor_along_and_none_leave_none() -> None:
    async with shown(TokenHeat(), (40, 5)) as (app, _):
        heat = app.query_one(TokenHeat)
        heat.show(WORDS, np.ones(7))
        heat.select(6)
        heat.show(WORDS[:3], np.ones(3))
        assert heat.cursor == 2
        heat.show([], [])
        assert heat.cursor is None
        heat.step(1)
        heat.step_line(1)
        with pytest.raises(ValueError, match="3 tokens"):
            heat.show(WORDS[:3], [1, 2])


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (PLAIN, "-2  -9  -6  -3  0   +3  +6  +9  2 nats"),
        (Look("none"), "-2  ⁻⁹  ⁻⁶  ⁻³  0   ⁺³  ⁺⁶  ⁺⁹  2 nats"),
    ],
)
async def test_a_legend_says_the_ends_the_steps_and_the_unit(look: Look, line: str) -> None:
    async with shown(HeatLegend(Scale("diverging", 2.0, "nats"), look=look)) as (app, pilot):
        assert screen(pilot)[0].rstrip() == line
        app.query_one(HeatLegend).show(Scale("sequential", 0.0))
        await pilot.pause()
        assert screen(pilot)[0].rstrip() == "all zero"


# ---------------------------------------------------------------------------------------- plots


async def test_values_are_read_with_the_cursor() -> None:
    a = Series.of("a", [1, 2, 4], [1.0, 0.5, 0.25])
    b = Series.of("b", [1, 4], [3.0, 2.0])
    async with shown(Plot([a, b], x_name="k", y_name="loss", look=PLAIN)) as (app, pilot):
        plot = app.query_one(Plot)
        plot.step(1)
        plot.step(1)
        plot.step(1)
        plot.step(1)
        await pilot.pause()
        reads = [m for m in app.said if isinstance(m, Plot.Read)]
        assert [m.x for m in reads] == [1, 2, 4]
        assert [(r.series, r.y) for r in reads[-1].readings] == [(0, 0.25), (1, 2.0)]
        assert "k 4" in screen(pilot)[0]
        assert "a 0.25" in screen(pilot)[0]
        assert "b 2" in screen(pilot)[0]
        plot.leave()
        await pilot.pause()
        assert "0.25" not in screen(pilot)[0]


async def test_axes_can_go_by_powers_and_leave_out_what_has_no_place() -> None:
    series = Series.of("a", [0, 1, 10, 100], [1, 10, 0, 1000])
    async with shown(Plot([series], look=PLAIN)) as (app, pilot):
        plot = app.query_one(Plot)
        plot.toggle_log("x")
        plot.toggle_log("y")
        await pilot.pause()
        assert plot.by_powers == (True, True)
        assert any(line.startswith(" 100") for line in screen(pilot))


@pytest.mark.parametrize("columns", [30, 40, 60, 90, 120])
async def test_an_axis_always_says_what_its_numbers_count(columns: int) -> None:
    series = Series.of("a", [0, 1, 2], [3, 2, 1])
    plot = Plot([series], x_name="steps done", look=PLAIN)
    async with shown(plot, (columns, 20)) as (_, pilot):
        axis = screen(pilot)[-1].split()
        assert axis[-2:] == ["steps", "done"]
        assert axis[0] == "0"


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (11, 5), (12, 5), (200, 60)])
async def test_a_plot_of_any_size_is_no_error(size: tuple[int, int]) -> None:
    series = Series.of("only", [3], [5])
    async with shown(Plot([series]), size) as (app, pilot):
        plot = app.query_one(Plot)
        plot.step(1)
        plot.show([])
        await pilot.pause()
        plot.show([Series.of("x", [np.nan], [1])], empty="nothing measured")
        await pilot.pause()
        if size[0] > 20:
            assert any("nothing measured" in line for line in screen(pilot))


@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_round_within_the_range_and_as_many_as_asked_for(log: bool) -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        low, high = np.sort(10 ** rng.uniform(-6, 6, 2))
        axis = AxisScale(float(low), float(high), log)
        for at_most in (1, 3, 8):
            ticks = axis.ticks(at_most)
            assert len(ticks) <= at_most
            assert ticks == sorted(ticks)
            assert all(low * (1 - 1e-9) <= t <= high * (1 + 1e-9) for t in ticks)
            assert all(len(tick_text(t)) < 9 for t in ticks)


def test_a_share_of_an_axis_and_its_value_are_inverse() -> None:
    for axis in (AxisScale(2.0, 300.0, True), AxisScale(-3.0, 5.0)):
        for share in (0.0, 0.3, 1.0):
            assert float(axis.shares(axis.value(share))) == pytest.approx(share)

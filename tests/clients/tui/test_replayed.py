"""Whole pages over a recorded session: what keys do, and what is shown."""

from pathlib import Path

import pytest
from textual import events

from circuit_protocol.session import SelectedNode
from circuit_tui.screens.start_run import StartRun
from circuit_tui.state import Select
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.plot import Plot
from circuit_tui.widgets.prompt import Prompt
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.token_heat import TokenHeat
from tui_replay import TEXT, alone, go, on, replayed, screen, typed, until


@pytest.fixture(autouse=True)
def own_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)


# ----------------------------------------------------------------------------------------- text


async def test_a_text_gets_losses_predictions_and_activations_as_it_is_typed() -> None:
    async with replayed() as (app, pilot):
        await typed(app, pilot)
        tokens = on(app, TokenHeat)
        assert tokens.scale.unit == "nats"
        assert on(app, Rows, "#next").rows[0].cells[1].text.endswith("%")
        assert on(app, Rows, "#nodes").rows[0].cells[0].text.endswith("]")
        assert app.scene.text == TEXT, "whoever shares the session sees it too"


async def test_colours_go_from_the_models_loss_to_the_circuits_the_difference_and_a_node() -> None:
    async with replayed() as (app, pilot):
        await typed(app, pilot)
        await pilot.press("tab")
        tokens = on(app, TokenHeat)
        seen = [tokens.values.copy()]
        for _ in range(2):
            await pilot.press("m")
            await pilot.pause()
            seen.append(tokens.values.copy())
        assert seen[2][1:] == pytest.approx(seen[1][1:] - seen[0][1:], abs=1e-5)
        assert tokens.scale.kind == "diverging"


async def test_why_this_token_and_not_that_one_is_answered_node_by_node() -> None:
    async with replayed() as (app, pilot):
        await typed(app, pilot)
        await pilot.press("tab", "w")
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: "not" in screen(app).split("why", 1)[-1][:40], "an explanation")
        rows = on(app, Rows, "#nodes").rows
        added = [float(row.cells[1].text) for row in rows]
        assert added == sorted(added, key=abs, reverse=True)
        assert app.page is not None
        assert "model" in app.page.plain_text()


async def test_a_megabyte_is_refused_with_a_sentence_and_nothing_is_pasted() -> None:
    async with replayed() as (app, pilot):
        await go(app, pilot, "f4", "text")
        app.post_message(events.Paste("x" * (1 << 20)))
        await until(pilot, lambda: "too much text" in screen(app), "a refusal")
        assert on(app, Prompt).text == ""
        app.post_message(events.Paste("short"))
        await until(pilot, lambda: on(app, Prompt).text == "short", "a short paste")


async def test_two_texts_become_a_pair_of_a_task_file(tmp_path: Path) -> None:
    async with replayed() as (app, pilot):
        await typed(app, pilot)
        await pilot.press("tab", "x")
        await until(pilot, lambda: "First prompt" in screen(app), "the first side")
        await pilot.press("x")
        await until(pilot, lambda: "differ" in screen(app), "a refusal of the same side twice")
        assert not (tmp_path / "config" / "tasks").exists()


# ------------------------------------------------------------------- card, plots, channel, runs


async def test_the_card_says_verdict_reasons_and_controls() -> None:
    async with replayed() as (app, pilot):
        await go(app, pilot, "f7", "card")
        said = on(app, Lines).text
        assert "DEPENDS on the kind of ablation" in said
        assert "necessity" in said
        assert "random circuits" in said


async def test_plots_are_read_with_the_arrows() -> None:
    async with replayed() as (app, pilot):
        await go(app, pilot, "f8", "plots")
        plot = on(app, Plot, "#first")
        await until(pilot, lambda: bool(plot.series), "circuits by size")
        await pilot.press("right", "right")
        await pilot.pause()
        assert plot.cursor == 39
        await pilot.press("t")
        await until(pilot, lambda: plot.series[0].name == "test_xent", "training metrics")
        await pilot.press("m")
        await pilot.pause()
        assert plot.series[0].name == "L0"
        await pilot.press("c")
        await pilot.pause()
        assert [s.name for s in plot.series] == ["loss"]
        assert [s.name for s in on(app, Plot, "#second").series] == ["nodes kept"]
        await pilot.press("s")
        await pilot.pause()
        assert "k_coef" in on(app, Lines).text


async def test_the_channel_of_a_node_is_read_from_both_sides() -> None:
    async with replayed() as (app, pilot):
        assert app.loaded is not None
        node = next(n for n in app.loaded.graph.nodes if n.site == "0.attn.resid_delta")
        app.do(Select(SelectedNode(site=node.site, channel=node.channel)))
        await go(app, pilot, "f9", "channel")
        await until(pilot, lambda: len(on(app, Rows, "#top").rows) == 20, "tokens")
        largest = [float(row.cells[1].text) for row in on(app, Rows, "#top").rows]
        assert largest == sorted(largest, reverse=True)
        assert on(app, Plot, "#positions").series
        await pilot.press("u")
        await until(pilot, lambda: not on(app, Plot, "#positions").series, "the unembedding")


async def test_a_form_says_what_it_cannot_mean_and_leaves_without_a_run() -> None:
    async with replayed() as (app, pilot):
        await go(app, pilot, "f6", "runs")
        await until(pilot, lambda: bool(on(app, Rows, "#jobs").rows), "jobs")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, StartRun), "the form")
        await pilot.press("tab", "x", "enter")
        await until(pilot, lambda: "target losses: this is no number" in screen(app), "why not")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, StartRun), "the page")


async def test_what_was_never_asked_is_said_and_the_session_goes_on() -> None:
    async with replayed() as (app, pilot):
        await go(app, pilot, "f4", "text")
        on(app, Prompt).load_text("never recorded")
        await until(pilot, lambda: "was not asked" in screen(app), "a sentence")
        on(app, Prompt).load_text(TEXT)
        await until(pilot, lambda: len(on(app, TokenHeat).tokens) > 5, "an answer")

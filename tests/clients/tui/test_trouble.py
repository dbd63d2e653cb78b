"""What can go wrong around the terminal UI: each is a sentence with a next step."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from circuit_protocol import circuit_requests, requests
from circuit_protocol.errors import NotFound
from circuit_tui import link
from circuit_tui.screens.no_daemon import NoDaemon
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.too_small import TooSmall
from made_circuits import shown_of
from scripted_daemon import Out, daemon, welcome
from tui_scenes import QUOTE, app_for, asked, opened, running, screen_text, scripts, until

PLACE = f"{QUOTE.circuit.task}/{QUOTE.summary.sweep}/{QUOTE.summary.label}"
MEGABYTE = "x" * (1 << 20)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUITD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


async def test_a_megabyte_is_not_taken_for_a_name(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        await pilot.press("space", "s")
        await until(pilot, lambda: bool(app.screen.query(Input)))
        line = app.screen.query_one(Input)
        app.post_message(events.Paste(MEGABYTE))
        await until(pilot, lambda: bool(app._notifications))
        (said,) = (n.message for n in app._notifications)
        assert said == (
            "This is too much text to paste: 1,048,576 characters where 1,000 have room.\n"
            "Paste the part that matters."
        )
        assert line.value == "edited"
        app.post_message(events.Paste("short"))
        await until(pilot, lambda: "short" in line.value)


async def test_an_empty_circuit_says_so_and_where_others_are(tmp_path: Path) -> None:
    empty = shown_of({}, [])

    def show(request: Any, frames: list) -> Iterator[Out]:
        yield empty

    answers = {circuit_requests.ShowCircuit: show}
    async with running(tmp_path, circuit=empty.summary.id, answers=answers) as (app, pilot, _):
        await opened(pilot, app)
        assert "it keeps no node: press 1 for another circuit, 6 to find one" in screen_text(app)
        for key in ("space", "g", "e", "o", "h", "b", "m", "enter", "i"):
            await pilot.press(key)  # none of them ends in an error
        assert app.scene.switched.is_nothing
        await pilot.press("3")
        await until(pilot, lambda: "no node is selected" in screen_text(app))


async def test_a_circuit_whose_model_is_absent_says_what_to_do(tmp_path: Path) -> None:
    def absent(request: Any, frames: list) -> Iterator[Out]:
        yield NotFound("there is no such model", asked="gone", hint="Look at `circuit models list`")

    kinds = (requests.DescribeModel, requests.SampleTask, circuit_requests.EditCircuit)
    answers = dict.fromkeys(kinds, absent)
    said = "there is no such model: look at `circuit models list`"
    async with running(tmp_path, size=(160, 40), circuit=PLACE, answers=answers) as (app, pilot, _):
        await until(pilot, lambda: f"without its model: {said}" in screen_text(app))
        await until(pilot, lambda: f"no example: {said}" in screen_text(app))
        await pilot.press("space")
        score = app.screen.query_one("#effect-score", Lines)
        await until(pilot, lambda: said in score.text)


async def test_a_terminal_that_is_too_small_says_how_large_it_must_be(tmp_path: Path) -> None:
    async with running(tmp_path, size=(30, 8), circuit=PLACE) as (app, pilot, _):
        await until(pilot, lambda: app.loaded is not None)
        words = " ".join(screen_text(app).split())
        assert words == (
            "This terminal has 30 by 8 cells, too few to read anything in: make it 40 by 10 or "
            "more. ctrl+d quits."
        )
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: "shipped" in screen_text(app) or "loss" in screen_text(app))
        assert not app.screen.query_one(TooSmall).display
        await pilot.resize_terminal(100, 9)
        await until(pilot, lambda: app.screen.query_one(TooSmall).display)


async def test_a_daemon_of_another_major_version_is_named_and_the_right_one_is_waited_for(
    tmp_path: Path,
) -> None:
    with ExitStack() as first:
        d = first.enter_context(daemon(tmp_path, greeting=welcome(version="9.0")))
        app = app_for(d.endpoint, circuit=PLACE)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: isinstance(app.screen, NoDaemon))
            await until(pilot, lambda: "9.0" in screen_text(app))
            assert "version" in screen_text(app)
            first.close()
            with daemon(tmp_path, scripts()):
                await until(pilot, lambda: not isinstance(app.screen, NoDaemon))
                await opened(pilot, app)


async def test_a_daemon_that_comes_back_as_another_major_version_is_not_waited_for(
    tmp_path: Path,
) -> None:
    with ExitStack() as first:
        d = first.enter_context(daemon(tmp_path, scripts()))
        app = app_for(d.endpoint, circuit=PLACE)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(pilot, app)
            first.close()
            await until(pilot, lambda: app.link.state.phase == "lost")
            with daemon(tmp_path, greeting=welcome("other", version="9.0")):
                await until(pilot, lambda: isinstance(app.screen, NoDaemon))
                await until(pilot, lambda: "9.0" in screen_text(app))
            with daemon(tmp_path, scripts(), instance="third"):
                await until(pilot, lambda: not isinstance(app.screen, NoDaemon))
                await pilot.press("space")
                await until(pilot, lambda: app.measuring.effect.now is not None)


async def test_a_daemon_that_does_not_answer_is_asked_how_it_does_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_STATUS_EVERY_S", 0.001)
    statuses: list[Any] = []

    def silent(request: Any, frames: list) -> Iterator[Out]:
        statuses.append(request)
        return iter(())

    async with running(tmp_path, circuit=PLACE, answers={requests.Status: silent}) as (
        app,
        pilot,
        d,
    ):
        await opened(pilot, app)
        for _ in range(3):
            await pilot.press("space")
            await asked(d, circuit_requests.EditCircuit)
            await pilot.press("u")
        assert len(statuses) == 1

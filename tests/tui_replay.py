"""The terminal UI over a recorded session: no daemon, the same answers each time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from textual.pilot import Pilot
from textual.widget import Widget

from circuit_tui.app import CircuitApp
from circuit_tui.options import ColorChoice, Options
from circuit_tui.widgets.prompt import Prompt
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.token_heat import TokenHeat

DATA = Path(__file__).parent / "data" / "tui"
SESSION = DATA / "quote.session"
CIRCUIT = "single_double_quote/shipped/34"
TEXT = 'def greet(name):\n    return "hello'

W = TypeVar("W", bound=Widget)


def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this terminal's colours nor this user's files."""
    for name in ("NO_COLOR", "COLORTERM", "CIRCUIT_THEME", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("STATE", "CONFIG", "CACHE", "RUNTIME"):
        monkeypatch.setenv(f"CIRCUITD_{name}_DIR", str(tmp_path / name.lower()))


@asynccontextmanager
async def replayed(
    size: tuple[int, int] = (130, 42), color: ColorChoice = "truecolor", *, plain: bool = False
) -> AsyncIterator[tuple[CircuitApp, Pilot[None]]]:
    """The app over the recording, the circuit on screen."""
    options = Options(replay=SESSION, circuit=CIRCUIT, color=color, ascii=plain, calm=True)
    app = CircuitApp(options)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(
            pilot, lambda: app.loaded is not None and app.loaded.model is not None, "a circuit"
        )
        yield app, pilot


async def until(pilot: Pilot[None], what: Callable[[], object], said: str) -> None:
    """Wait until something is so; a test that waits for what never comes says for what."""
    for _ in range(600):
        await pilot.pause(0.01)
        if what():
            return
    raise AssertionError(f"never came: {said}")


def on(app: CircuitApp, kind: type[W], selector: str | None = None) -> W:
    """The widget of the page in sight."""
    assert app.page is not None
    return app.page.query_one(kind) if selector is None else app.page.query_one(selector, kind)


def screen(app: CircuitApp) -> str:
    """The characters on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


async def go(app: CircuitApp, pilot: Pilot[None], key: str, place: str) -> None:
    await pilot.press(key)
    await until(pilot, lambda: app.page is not None and place == app.page.PLACE, place)
    await pilot.pause()


async def typed(app: CircuitApp, pilot: Pilot[None]) -> None:
    """The text page with the recorded text, answered."""
    await go(app, pilot, "f4", "text")
    on(app, Prompt).load_text(TEXT)
    await until(
        pilot,
        lambda: (
            len(on(app, TokenHeat).tokens) > 5
            and on(app, Rows, "#nodes").rows
            and any(row.cells[2].text for row in on(app, Rows, "#next").rows)
        ),
        "losses, predictions and activations",
    )

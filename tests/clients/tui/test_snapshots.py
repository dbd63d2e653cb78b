"""Pages look as they did: at three sizes and three depths of colour, characters and styles.

Under `tests/data/tui/snapshots` the characters of each size stand as they are in truecolor, and the
lines that read otherwise in fewer colours; of the styles a digest for each line. A test that fails
shows the characters, and what the styles of each changed line are now.
`UPDATE_SNAPSHOTS=1 pytest FILE` writes what is new; look at the difference before you commit it.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.color import ColorSystem
from textual.pilot import Pilot
from textual.scrollbar import ScrollBar

from circuit_protocol.session import SelectedNode
from circuit_tui.app import CircuitApp
from circuit_tui.options import ColorChoice
from circuit_tui.paint.scrollbars import PlainBars
from circuit_tui.state import Select
from circuit_tui.widgets.passages import Passages
from circuit_tui.widgets.picture import Picture
from circuit_tui.widgets.plot import Plot
from circuit_tui.wire import PLAIN, codes_of
from tui_replay import DATA, alone, go, on, replayed, screen, typed, until

SIZES = ((80, 24), (120, 40), (200, 60))
SYSTEMS: dict[ColorChoice, ColorSystem] = {
    "truecolor": ColorSystem.TRUECOLOR, "256": ColorSystem.EIGHT_BIT, "16": ColorSystem.STANDARD
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)


async def pages(app: CircuitApp, pilot: Pilot[None]) -> AsyncIterator[str]:
    """The pages, one after the other, each filled; by name."""
    await until(pilot, lambda: bool(app.measuring.effect.sides_found), "an example")
    app.do(Select(SelectedNode(site="0.attn.v", channel=111)))  # the one that was recorded
    await pilot.pause()
    yield "matrix"
    await pilot.press("g")
    await until(pilot, lambda: on(app, Picture, "#graph").graph.n_nodes > 1, "a graph")
    await pilot.pause()
    yield "graph"
    await go(app, pilot, "f3", "node")
    await until(pilot, lambda: bool(on(app, Passages).passages), "activations")
    await pilot.pause()
    yield "node"
    await typed(app, pilot)
    await pilot.press("tab")
    await pilot.pause()
    yield "text"
    await go(app, pilot, "f7", "card")
    yield "card"
    await go(app, pilot, "f8", "plots")
    await until(pilot, lambda: bool(on(app, Plot, "#first").series), "circuits by size")
    await pilot.press("t", "right", "right")
    await pilot.pause()
    yield "plots"


def styles(app: CircuitApp, system: ColorSystem) -> list[str]:
    """How each line is coloured, as runs: how many cells, and the codes that a terminal gets."""
    lines: list[str] = []
    for strip in app.screen._compositor.render_strips():
        runs: list[tuple[int, str]] = []
        for segment in strip:
            front, back, attributes = codes_of(segment.style, system) if segment.style else PLAIN
            if segment.text.isspace() and not attributes:
                front = ""  # nobody sees it
            said = ",".join(code for code in (front, back, *attributes) if code)
            n = segment.cell_length
            if runs and runs[-1][1] == said:
                runs[-1] = (runs[-1][0] + n, said)
            elif n:
                runs.append((n, said))
        lines.append(" ".join(f"{n}x{said}" for n, said in runs))
    return lines


def digest(line: str) -> str:
    return hashlib.blake2b(line.encode(), digest_size=3).hexdigest()


def stored(name: str, seen: str) -> str:
    """What was stored; with UPDATE_SNAPSHOTS, what is seen is stored first."""
    path = DATA / "snapshots" / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(seen, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def stored_characters(size: str, color: ColorChoice, seen: str) -> str:
    """The characters that were stored: those in truecolor, some lines of them replaced."""
    if color == "truecolor":
        return stored(f"{size}.txt", seen)
    lines = (DATA / "snapshots" / f"{size}.txt").read_text(encoding="utf-8").splitlines()
    others = [
        f"{n}:{new}\n"
        for n, (old, new) in enumerate(zip(lines, seen.splitlines(), strict=True))
        if old != new
    ]
    for other in stored(f"{size}-{color}.txt", "".join(others)).splitlines():
        n, _, line = other.partition(":")
        lines[int(n)] = line
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("color", SYSTEMS)
@pytest.mark.parametrize(("columns", "lines"), SIZES)
async def test_pages_look_as_they_did(columns: int, lines: int, color: ColorChoice) -> None:
    characters = looks = ""
    runs: list[str] = []
    async with replayed((columns, lines), color) as (app, pilot):
        async for name in pages(app, pilot):
            characters += f"=== {name}\n{screen(app)}"
            of_page = styles(app, SYSTEMS[color])
            runs += [f"{name} line {n}: {line}" for n, line in enumerate(of_page)]
            looks += f"=== {name}\n" + "".join(f"{digest(line)}\n" for line in of_page)
    for line in characters.splitlines():
        assert len(line) <= columns
    size = f"{columns}x{lines}"
    assert characters == stored_characters(size, color, characters)
    digests = stored(f"{size}-{color}.styles", looks).splitlines()
    kept = [line for line in digests if not line.startswith("===")]
    changed = [run for run, old in zip(runs, kept, strict=True)
               if digest(run.partition(": ")[2]) != old]  # fmt: skip
    assert changed == [], "lines that are coloured otherwise than they were"


@pytest.mark.parametrize(("columns", "lines"), SIZES)
async def test_a_plain_terminal_is_shown_nothing_beyond_ascii(
    monkeypatch: pytest.MonkeyPatch, columns: int, lines: int
) -> None:
    monkeypatch.setattr(ScrollBar, "renderer", PlainBars)
    async with replayed((columns, lines), "none", plain=True) as (app, pilot):
        async for name in pages(app, pilot):
            assert [c for c in screen(app) if not c.isascii()] == [], name

"""The app on a scripted daemon: choose, read, operate, undo, save, compare, share, and trouble."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from circuit_client.switching import EdgeId, HalfId, HeadId, NodeId
from circuit_protocol import circuit_requests, replies, requests
from circuit_protocol.errors import CheckpointError
from circuit_protocol.session import SelectedNode
from circuit_tui.screens.circuit import CircuitPage
from circuit_tui.screens.help import Help
from circuit_tui.screens.jump import Jump
from circuit_tui.screens.no_daemon import NoDaemon
from circuit_tui.state import Choose, Select
from circuit_tui.widgets.passages import Passages
from circuit_tui.widgets.picture import Picture
from circuit_tui.widgets.rows import Rows
from circuit_tui.widgets.site_matrix import MatrixView
from scripted_daemon import Out, daemon
from tui_scenes import MODEL, QUOTE, app_for, asked, opened, running, screen_text, scripts, until

PLACE = f"{QUOTE.circuit.task}/{QUOTE.summary.sweep}/{QUOTE.summary.label}"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUITD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


async def test_a_circuit_is_found_and_opened_with_the_keyboard_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as (app, pilot, _):
        await until(pilot, lambda: len(app.screen.query_one("#tasks", Rows).rows) >= 4)
        assert app.scene.model == MODEL  # the default one
        await pilot.press("slash", *"quote")
        await until(pilot, lambda: " quote" in screen_text(app))  # what is typed is seen
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen.query_one("#circuits", Rows).rows) == 1)
        await pilot.press("enter")
        await opened(pilot, app)
        assert isinstance(app.screen, CircuitPage)
        assert app.scene.circuit == QUOTE.summary.id
        # What is worth most is selected, so that there is something to act on.
        assert app.scene.node == SelectedNode(site="10.attn.v", channel=656) or app.scene.node


async def test_keys_that_arrive_at_once_go_where_each_of_them_leads(tmp_path: Path) -> None:
    async with running(tmp_path) as (app, pilot, _):
        await until(pilot, lambda: len(app.screen.query_one("#circuits", Rows).rows) == 2)
        keys = [("slash", "/"), *((c, c) for c in "quote"), ("enter", "\r"), ("enter", "\r")]
        for key, character in keys:  # in one packet, as they come over a slow line
            app.post_message(events.Key(key, character))
        await opened(pilot, app)
        assert app.scene.circuit == QUOTE.summary.id


async def test_a_broken_model_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as (app, pilot, _):
        await until(pilot, lambda: len(app.screen.query_one("#models", Rows).rows) == 2)
        app.screen.query_one("#models", Rows).focus()
        await pilot.press("end", "enter")
        await until(pilot, lambda: any("lm_head" in n.message for n in app._notifications))
        assert app.scene.model == MODEL


async def test_switching_a_node_shows_its_cost_and_is_undone_and_done_again(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, d):
        await opened(pilot, app)
        found = app.measuring.effect.found
        assert found is not None
        await pilot.press("space")
        await until(pilot, lambda: app.measuring.effect.now is not None)
        assert app.measuring.effect.now is not None
        assert app.measuring.effect.now.loss == pytest.approx(found.loss + 0.1)
        assert len(app.scene.switched.off) == 1
        await until(pilot, lambda: bool(app.measuring.effect.sides_now))
        assert "→" in screen_text(app)
        await pilot.press("u")
        await until(pilot, lambda: app.measuring.effect.now is None)
        assert app.scene.switched.is_nothing
        await pilot.press("U")
        await until(pilot, lambda: app.measuring.effect.now is not None)
        await pilot.press("M")
        await until(pilot, lambda: app.scene.switched.is_nothing)
        request = await asked(d, circuit_requests.EditCircuit)
        assert sum(len(g.channels or ()) for g in request.drop) == 1


async def test_heads_half_blocks_and_edges_are_switched_too(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        graph = app.loaded.graph  # pyright: ignore[reportOptionalMemberAccess]  # opened
        value = graph.nodes[graph.index["10.attn.v", 656]]
        page = app.screen
        assert isinstance(page, CircuitPage)
        page._select_named(value.name)
        await pilot.press("h")
        assert app.scene.switched.off == {HeadId(10, 82)}
        await pilot.press("h", "b")
        assert app.scene.switched.off == {HalfId(10, "attn")}
        await pilot.press("b", "e")
        await until(pilot, lambda: len(page.query_one("#edges", Rows).rows) == 9)
        await pilot.press("space")
        (edge,) = app.scene.switched.off
        assert isinstance(edge, EdgeId)
        assert edge == EdgeId(NodeId("10.attn.act_in", 985), NodeId("10.attn.v", 656))
        await until(pilot, lambda: app.measuring.effect.now is not None)


async def test_the_newest_press_wins_and_the_older_question_is_cancelled(tmp_path: Path) -> None:
    def silent(request: Any, frames: list) -> Iterator[Out]:
        return iter(())

    answers = {circuit_requests.EditCircuit: silent}
    async with running(tmp_path, circuit=PLACE, answers=answers) as (app, pilot, d):
        await opened(pilot, app)
        await pilot.press("space")
        first = await asked(d, circuit_requests.EditCircuit)
        await pilot.press("b")
        cancelled = await asked(d, requests.Cancel)
        assert cancelled.target == first.id
        await until(pilot, lambda: any(w.what == "measuring" for w in app.link.state.waits))
        await pilot.press("escape")  # every wait can be cancelled
        await until(pilot, lambda: not app.link.state.waits)


async def test_an_edited_circuit_is_saved_under_a_name(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, d):
        await opened(pilot, app)
        await pilot.press("space", "s")
        await until(pilot, lambda: bool(app.screen.query(Input)))
        await pilot.press("ctrl+u", *"mine")
        await until(pilot, lambda: " mine" in screen_text(app))
        await pilot.press("enter")
        while not (request := await asked(d, circuit_requests.EditCircuit)).save:
            pass
        assert request.sweep == "mine"


async def test_a_node_that_the_circuit_does_not_keep_is_added_and_taken_out(tmp_path: Path) -> None:
    async def name(pilot: Any, app: Any, text: str) -> None:
        await pilot.press("A")
        await until(pilot, lambda: bool(app.screen.query(Input)))
        app.screen.query_one(Input).value = text
        await pilot.press("enter")

    async with running(tmp_path, circuit=PLACE) as (app, pilot, d):
        await opened(pilot, app)
        await name(pilot, app, "1.attn.v[3]")
        request = await asked(d, circuit_requests.EditCircuit)
        assert [(g.site, g.channels) for g in request.add] == [("1.attn.v", (3,))]
        assert app.scene.node == SelectedNode(site="1.attn.v", channel=3)
        await until(pilot, lambda: "added: 1.attn.v[3]" in screen_text(app))
        await pilot.press("A")  # the selected one again: out of it
        await until(pilot, lambda: app.scene.switched.is_nothing)
        await pilot.press("u")
        assert app.scene.switched.added == {NodeId("1.attn.v", 3)}
        for text, said in (
            ("1.attn.nope[3]", "No site has this name."),
            ("1.attn.v[4096]", "This site has no such channel."),
            ("10.attn.v[656]", "The circuit keeps this node already."),
            ("1.attn.v", "Which channel of it?"),
        ):
            app.do(Select(None))
            await name(pilot, app, text)
            await until(pilot, lambda said=said: said in list(app._notifications)[-1].message)
        assert app.scene.switched.added == {NodeId("1.attn.v", 3)}


async def test_views_of_the_circuit_follow_the_keys(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        page = app.screen
        matrix = page.query_one(MatrixView)
        assert matrix.pointed is not None
        assert matrix.pointed.site == "10.attn.v"  # where the selected node is
        matrix.point_at("0.mlp.act_in")
        await pilot.press("enter")  # drills down to the graph of its half block
        picture = page.query_one("#graph", Picture)
        await until(pilot, lambda: picture.graph.n_nodes == 6)
        await pilot.press("right")
        await until(pilot, lambda: picture.selected is not None)
        before = app.scene.node
        await pilot.press("left", "right", "down")
        await until(pilot, lambda: app.scene.node != before)
        # What the cursor is at is what keys act on, before it has rested as well.
        await pilot.press("left", "space")
        ends = app.scene.node
        assert app.scene.switched.off == {NodeId(ends.site, ends.channel)}  # pyright: ignore[reportOptionalMemberAccess]
        await pilot.press("u", "plus")
        zoomed = picture.viewport
        await pilot.press("shift+right", "minus")
        assert picture.viewport != zoomed
        await pilot.press("o")
        ego = page.query_one("#ego", Picture)
        await until(pilot, lambda: ego.graph.n_nodes >= 2)
        await pilot.press("g", "greater_than_sign", "greater_than_sign")
        await until(pilot, lambda: "edges that cost" in screen_text(app))


async def test_what_the_list_under_the_matrix_is_at_is_what_keys_act_on(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE, size=(80, 24)) as (app, pilot, _):
        await opened(pilot, app)
        matrix, nodes = app.screen.query_one(MatrixView), app.screen.query_one("#nodes", Rows)
        assert nodes.current is not None
        assert app.scene.node is not None
        assert nodes.current.key == f"{app.scene.node.site}[{app.scene.node.channel}]"
        matrix.point_at("0.mlp.act_in")
        matrix.action_step(0, 1)  # to the neurons of that layer
        await until(pilot, lambda: str(nodes.current.key).startswith("0.mlp.post_act"))  # pyright: ignore[reportOptionalMemberAccess]
        name = nodes.current.key
        await pilot.press("space")
        assert {f"{n.site}[{n.channel}]" for n in app.scene.switched.off} == {name}  # pyright: ignore[reportAttributeAccessIssue]
        # Where the effect lies behind a tab, the headline says it.
        await until(pilot, lambda: f"off: {name}" in screen_text(app).splitlines()[1])
        # Without a key it is selected as well, when the cursor rests.
        matrix.point_at("10.attn.q")
        matrix.action_step(0, -1)
        await until(pilot, lambda: app.scene.node.site == "10.attn.act_in")  # pyright: ignore[reportOptionalMemberAccess]


async def test_a_node_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        app.screen._select_named("10.attn.v[656]")  # pyright: ignore[reportAttributeAccessIssue]
        await pilot.press("3")
        await until(pilot, lambda: app.current_mode == "node" and app.page.is_ready)  # pyright: ignore[reportOptionalMemberAccess]
        texts = app.screen.query_one(Passages)
        await until(pilot, lambda: len(texts.passages) == 3)
        assert [p.heading.partition(",")[0] for p in texts.passages] == [
            "class 1", "class 2", "difference",
        ]  # fmt: skip
        assert texts.passages[2].values.tolist() == [0.0, 4.0, 0.5]
        assert "bias 0.375" in screen_text(app)
        assert texts.passages[0].framed == 1
        await pilot.press("x")
        assert len(texts.passages) == 8
        await pilot.press("a")
        assert len(texts.passages) == 2
        assert "25% to the sink" in texts.passages[0].heading
        await pilot.press("v")  # the channel's own share: attention times value
        assert texts.passages[0].values.tolist() == [0.0, 2.25, 0.0]
        await pilot.press("d")
        await until(pilot, lambda: "quantiles" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.current_mode == "circuit")


async def test_two_circuits_are_compared(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        await pilot.press("5")
        await until(pilot, lambda: app.current_mode == "compare" and app.page.is_ready)  # pyright: ignore[reportOptionalMemberAccess]
        await until(pilot, lambda: len(app.screen.query_one("#with", Rows).rows) == 1)
        await pilot.press("enter")
        changes = app.screen.query_one("#changes", Rows)
        await until(pilot, lambda: len(changes.rows) > 40)
        assert {row.mark for row in changes.rows} >= {"+", "-"}
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "[changes]" in screen_text(app).splitlines()[1])
        assert "Jaccard" in screen_text(app)


async def test_help_palette_and_jump_know_every_key(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        text = app.screen.keys_text()
        assert "Switch the selected node" in text
        assert "Everywhere" in text
        await pilot.press("escape")
        commands = {c.title for c in app.get_system_commands(app.screen)}
        assert any(title.startswith("Graph") for title in commands)
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, Jump)
        await pilot.press("a")
        await until(pilot, lambda: not isinstance(app.screen, Jump))
        assert app.focused is not None


async def test_copies_and_exports_say_what_is_on_screen(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE) as (app, pilot, _):
        await opened(pilot, app)
        await pilot.press("y")
        copied = tmp_path / f"circuit-copied-{os.getuid()}.txt"
        assert "0.mlp" in copied.read_text()
        assert copied.stat().st_mode & 0o777 == 0o600
        for suffix in ("svg", "txt", "json"):
            await pilot.press("E")
            await until(pilot, lambda: bool(app.screen.query(Input)))
            app.screen.query_one(Input).value = str(tmp_path / f"out.{suffix}")
            await pilot.press("enter")
            await until(pilot, (tmp_path / f"out.{suffix}").exists)
        assert (tmp_path / "out.svg").read_text().startswith("<svg")
        assert QUOTE.summary.id in (tmp_path / "out.json").read_text()


async def test_a_narrow_terminal_shows_panes_behind_tabs(tmp_path: Path) -> None:
    async with running(tmp_path, circuit=PLACE, size=(80, 24)) as (app, pilot, _):
        await opened(pilot, app)
        await until(pilot, lambda: "[picture]" in screen_text(app))
        await pilot.press("tab")  # to the list under the matrix
        assert app.focused is app.screen.query_one("#nodes", Rows)
        assert "[picture]" in screen_text(app)
        await pilot.press("tab")
        assert "[node]" in screen_text(app)
        await pilot.press("shift+tab")
        assert app.focused is app.screen.query_one("#nodes", Rows)
        await pilot.press("tab")
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "[node]" not in screen_text(app))


async def test_no_daemon_is_said_and_one_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIRCUIT_ENDPOINT", raising=False)
    endpoint = f"ipc://{tmp_path}/d.sock"
    app = app_for(endpoint)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, NoDaemon))
        await until(pilot, lambda: "Start a daemon" in screen_text(app))
        with daemon(tmp_path, scripts()):  # one appears: the offer goes away by itself
            await until(pilot, lambda: not isinstance(app.screen, NoDaemon))
            await until(pilot, lambda: app.link.state.phase == "open")
            await until(pilot, lambda: len(app.screen.query_one("#tasks", Rows).rows) >= 4)


async def test_a_lost_daemon_comes_back_and_the_state_is_kept(tmp_path: Path) -> None:
    with ExitStack() as first:
        d = first.enter_context(daemon(tmp_path, scripts()))
        app = app_for(d.endpoint, circuit=PLACE)
        async with app.run_test(size=(120, 40)) as pilot:
            await opened(pilot, app)
            await pilot.press("space")
            await until(pilot, lambda: app.measuring.effect.now is not None)
            first.close()
            await until(pilot, lambda: app.link.state.phase == "lost")
            await until(pilot, lambda: "lost" in screen_text(app))
            await pilot.press("u")  # the app goes on meanwhile
            assert app.scene.switched.is_nothing
            with daemon(tmp_path, scripts(), instance="second") as d:
                await until(pilot, lambda: app.link.state.phase == "open")
                request = await asked(d, requests.UpdateSession)
                # Its fresh session is told what is looked at.
                assert request.patch.circuit == QUOTE.summary.id
                await until(pilot, lambda: not app.link.is_sharing)
                await pilot.pause()
                assert app.scene.circuit == QUOTE.summary.id


async def test_a_refusal_is_a_sentence_with_a_next_step(tmp_path: Path) -> None:
    def refused(request: Any, frames: list) -> Iterator[Out]:
        yield CheckpointError("the model cannot be loaded", found="no tensor", hint="Convert it")

    answers = {requests.LoadModel: refused}
    async with running(tmp_path, answers=answers) as (app, pilot, _):
        await until(pilot, lambda: app.link.state.status is not None)
        await until(pilot, lambda: len(app.screen.query_one("#models", Rows).rows) == 2)
        await pilot.press("l")
        await until(pilot, lambda: bool(app._notifications))
        (said,) = (n.message for n in app._notifications)
        assert said == "The model cannot be loaded.\nfound: no tensor\nConvert it."


async def test_an_absent_circuit_is_said_where_it_would_stand(tmp_path: Path) -> None:
    async with running(tmp_path) as (app, pilot, _):
        await until(pilot, lambda: app.link.state.phase == "open")
        app.do(Choose(MODEL, "with_as", "feedfeed", 3))
        app.action_go("circuit")
        await until(pilot, lambda: app.load_error is not None)
        await until(pilot, lambda: "no circuit has this name" in screen_text(app))


async def test_idle_repaints_nothing(tmp_path: Path) -> None:
    def busy_status(request: Any, frames: list) -> Iterator[Out]:
        busy_status.n += 1  # pyright: ignore[reportFunctionMemberAccess]
        yield replies.StatusReport(
            id="x", version="0", instance="first", uptime_s=float(busy_status.n), endpoints=(),  # pyright: ignore[reportFunctionMemberAccess]
            processes=(), clients=1, queued=0, running=0, completed=busy_status.n, failed=0,  # pyright: ignore[reportFunctionMemberAccess]
        )  # fmt: skip

    busy_status.n = 0  # pyright: ignore[reportFunctionMemberAccess]
    answers = {requests.Status: busy_status}
    async with running(tmp_path, circuit=PLACE, answers=answers) as (app, pilot, _):
        await opened(pilot, app)
        await until(pilot, lambda: not app.link.state.waits)
        painted: list[object] = []
        shown = app._display
        app._display = lambda screen, update: painted.append(update) or shown(screen, update)  # pyright: ignore[reportAttributeAccessIssue]
        n = busy_status.n  # pyright: ignore[reportFunctionMemberAccess]
        await until(pilot, lambda: busy_status.n >= n + 1)  # pyright: ignore[reportFunctionMemberAccess]
        painted.clear()  # what was still on its way when it became idle
        n = busy_status.n  # pyright: ignore[reportFunctionMemberAccess]
        await until(pilot, lambda: busy_status.n >= n + 1)  # pyright: ignore[reportFunctionMemberAccess]
        await pilot.pause()
        assert [p for p in painted if p is not None] == []

"""Runs from the form to the circuit that was found: started, watched, cancelled, opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from circuit_protocol import circuit_replies, circuit_requests, replies, requests
from circuit_tui.app import CircuitApp
from circuit_tui.screens.start_run import StartRun
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.plot import Plot
from circuit_tui.widgets.rows import Rows
from scripted_daemon import Out, Script
from tui_scenes import QUOTE, asked, opened, running, screen_text, until

PLACE = f"{QUOTE.circuit.task}/{QUOTE.summary.sweep}/{QUOTE.summary.label}"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUITD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


class Jobs:
    """A daemon's jobs: each request that is detached becomes one, whose end the test decides."""

    def __init__(self, end: replies.Reply | None) -> None:
        self._end = end
        self._jobs: list[replies.JobInfo] = []

    def accept(self, request: Any, frames: list) -> Iterator[Out]:
        assert request.detach
        yield replies.JobAccepted(
            id="x", job=self.add(str(type(request).__struct_config__.tag), "running")
        )

    def add(self, kind: str, state: Any) -> str:
        job = f"j-{len(self._jobs) + 1}"
        self._jobs.append(
            replies.JobInfo(
                job=job, request_type=kind, description=kind, state=state, created_at_s=0.0,
                done=1.0, total=4.0,
            )
        )  # fmt: skip
        return job

    def listed(self, request: Any, frames: list) -> Iterator[Out]:
        yield replies.JobList(id="x", jobs=tuple(self._jobs))

    def watch(self, request: requests.WatchJob, frames: list) -> Iterator[Out]:
        for step, (loss, k) in enumerate([(0.9, 400), (0.4, 80), (0.15, 34)]):
            yield replies.Progress(
                id="x", final=False, stage="pruning", done=float(step), total=4.0, unit="steps",
                eta_s=0.245, loss=loss, k=k,
            )  # fmt: skip
        if self._end is not None:
            self._set(request.job, "done")
            yield self._end

    def cancel(self, request: requests.CancelJob, frames: list) -> Iterator[Out]:
        self._set(request.job, "cancelled")
        yield replies.Done(id="x", changed=True)

    def _set(self, job: str, state: Any) -> None:
        self._jobs = [
            msgspec.structs.replace(j, state=state, finished_at_s=j.created_at_s + 4.0)
            if j.job == job
            else j
            for j in self._jobs
        ]

    def scripts(self) -> dict[type, Script]:
        return {
            circuit_requests.Prune: self.accept,
            circuit_requests.Verify: self.accept,
            requests.ListJobs: self.listed,
            requests.WatchJob: self.watch,
            requests.CancelJob: self.cancel,
        }


def _said(app: CircuitApp) -> list[str]:
    return [notification.message for notification in app._notifications]


async def test_a_filled_in_form_becomes_a_job_whose_circuit_is_opened(tmp_path: Path) -> None:
    jobs = Jobs(circuit_replies.PruneResult(id="x", circuits=(QUOTE.summary,)))
    async with running(tmp_path, circuit=PLACE, answers=jobs.scripts()) as (app, pilot, d):
        await opened(pilot, app)
        await pilot.press("6", "p")
        await until(pilot, lambda: isinstance(app.screen, StartRun))
        await pilot.press("tab", "ctrl+u", *"0.2", "enter")
        request = await asked(d, circuit_requests.Prune)
        assert request.tasks == (QUOTE.circuit.task,)
        assert request.target_losses == (0.2,)
        table = app.screen_stack[0].query_one("#jobs", Rows)
        await until(pilot, lambda: table.current is not None and table.current.key == "j-1")
        found = app.screen.query_one("#lines", Lines)
        await until(pilot, lambda: QUOTE.summary.id in found.text)
        assert app.screen.query_one("#loss", Plot).series[0].y.tolist() == [0.9, 0.4, 0.15]
        await until(pilot, lambda: "done after 4.0 s" in found.text)
        await until(pilot, lambda: "steps done" in screen_text(app))
        assert " left" not in found.text
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "circuit")
        assert app.scene.circuit == QUOTE.summary.id


async def test_a_running_job_is_ended_with_a_key_and_only_once(tmp_path: Path) -> None:
    jobs = Jobs(None)
    async with running(tmp_path, circuit=PLACE, answers=jobs.scripts()) as (app, pilot, d):
        await opened(pilot, app)
        await pilot.press("6", "p")
        await until(pilot, lambda: isinstance(app.screen, StartRun))
        await pilot.press("enter")
        lines = app.screen_stack[0].query_one("#lines", Lines)
        await until(pilot, lambda: "34 nodes" in lines.text and "running" in screen_text(app))
        assert lines.text.splitlines()[0].endswith("245 ms left")
        await pilot.press("x")
        assert (await asked(d, requests.CancelJob)).job == "j-1"
        await until(pilot, lambda: lines.text == "cancelled after 4.0 s")
        await pilot.press("x")
        await until(pilot, lambda: "This job has ended already." in _said(app))


async def test_a_job_is_listened_to_while_the_cursor_is_on_it(tmp_path: Path) -> None:
    jobs = Jobs(None)
    jobs.add("prune", "running")
    jobs.add("prune", "failed")
    async with running(tmp_path, circuit=PLACE, answers=jobs.scripts()) as (app, pilot, d):
        await opened(pilot, app)
        await pilot.press("6")
        watch = await asked(d, requests.WatchJob)
        assert watch.job == "j-1"
        await pilot.press("down")
        assert (await asked(d, requests.Cancel)).target == watch.id


async def test_the_card_starts_a_verification_of_the_circuit_that_is_looked_at(
    tmp_path: Path,
) -> None:
    jobs = Jobs(None)
    async with running(tmp_path, circuit=PLACE, answers=jobs.scripts()) as (app, pilot, d):
        await opened(pilot, app)
        await pilot.press("7", "v")
        await until(pilot, lambda: isinstance(app.screen, StartRun))
        await pilot.press("enter")
        request = await asked(d, circuit_requests.Verify)
        assert request.circuit == QUOTE.summary.id
        await until(pilot, lambda: app.current_mode == "runs" and "verify" in screen_text(app))

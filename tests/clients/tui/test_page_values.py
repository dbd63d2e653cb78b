"""What pages show and ask, as values: forms, jobs, plots, examples."""

import json
from pathlib import Path
from typing import Any

import pytest

from circuit_protocol.circuit_replies import PrunePart, PruneResult, VerifyPart
from circuit_protocol.circuit_requests import Prune, Verify
from circuit_protocol.circuits import Control, PruneStep
from circuit_protocol.errors import ErrorInfo, InvalidRequest
from circuit_protocol.inspection import Metric, TrainingCurvesShown
from circuit_protocol.replies import JobInfo, Progress
from circuit_tui.paint.look import Look
from circuit_tui.starting import fields, request
from circuit_tui.state import Scene
from circuit_tui.task_example import Side, add_pair
from circuit_tui.views.jobs import Heard, job_rows
from circuit_tui.views.plots import metric_groups, pruning, sizes, training
from made_circuits import summaries

SCENE = Scene(model="m", task="with_as", circuit="0123")
PLAIN = Look("none", ascii_only=True)

# ---------------------------------------------------------------------------------------- forms


def filled(kind, **changed: str) -> dict[str, str]:
    return {field.name: field.text for field in fields(kind, SCENE)} | changed


def test_an_untouched_form_prunes_the_task_that_is_looked_at() -> None:
    asked = request("prune", SCENE, filled("prune")).request
    assert isinstance(asked, Prune)
    assert (asked.model, asked.tasks, asked.target_losses, asked.ks) == (
        "m",
        ("with_as",),
        (0.15,),
        (),
    )
    assert (asked.method, asked.ablation, asked.sweep, asked.save) == (
        "learned",
        "mean",
        None,
        True,
    )


def test_lists_make_a_sweep() -> None:
    given = {"tasks": "a, b", "target losses": "", "sizes k": "10 20;30", "seeds": "1,2"}
    asked = request("prune", SCENE, filled("prune", **given, sweep=" mine ")).request
    assert isinstance(asked, Prune)
    assert (asked.tasks, asked.ks, asked.seeds) == (("a", "b"), (10, 20, 30), (1, 2))
    assert asked.sweep == "mine"


def test_a_verification_is_of_the_circuit_that_is_looked_at_or_another() -> None:
    asked = request("verify", SCENE, filled("verify")).request
    assert isinstance(asked, Verify)
    assert (asked.circuit, asked.model) == ("0123", "m")
    assert asked.settings.n_seeds == 2
    other = request("verify", SCENE, filled("verify", circuit="t/s/9")).request
    assert isinstance(other, Verify)
    assert other.model == "", "its own model, wherever that is"


@pytest.mark.parametrize(
    ("kind", "changed", "says"),
    [
        ("prune", {"tasks": " "}, "which task"),
        ("prune", {"target losses": "low"}, "target losses"),
        ("prune", {"sizes k": "-4"}, "sizes k"),
        ("prune", {"steps": "0"}, "steps: at least 1"),
        ("prune", {"method": "magic"}, "method"),
        ("verify", {"circuit": ""}, "which circuit"),
        ("verify", {"pairs": "4"}, "pairs: at least 8"),
    ],
)
def test_what_a_form_cannot_mean_is_said(kind, changed, says) -> None:
    with pytest.raises(InvalidRequest, match=says):
        request(kind, SCENE, filled(kind, **changed))


# ----------------------------------------------------------------------------------------- jobs


def test_jobs_say_how_far_they_are_and_how_old() -> None:
    jobs = [
        JobInfo(job="a", request_type="prune", description="prune", state="running",
                created_at_s=100.0, done=30, total=120),
        JobInfo(job="b", request_type="verify", description="", state="done",
                created_at_s=0.0, done=1, total=1),
        JobInfo(job="c", request_type="prune", description="", state="cancelled",
                created_at_s=7390.0, done=1, total=4,
                error=ErrorInfo(code="cancelled", message="the request was cancelled")),
        JobInfo(job="d", request_type="prune", description="", state="failed",
                created_at_s=7390.0, done=1, total=4,
                error=ErrorInfo(code="not_found", message="a sentence of some length")),
    ]  # fmt: skip
    rows = job_rows(jobs, PLAIN, now_s=7400.0)
    assert [cell.text for cell in rows[0].cells] == ["a", "prune", "running", "25%", "2 h"]
    assert [cell.text for cell in rows[1].cells] == ["b", "verify", "done", "", "2 h"]
    assert [cell.text for cell in rows[2].cells] == ["c", "prune", "cancelled", "25%", "10 s"]
    assert [cell.text for cell in rows[3].cells] == ["d", "prune", "failed", "25%", "10 s"]
    assert len({row.mark for row in rows}) == 4, "a sign for each state"


def progress(
    done: float, loss: float | None = None, k: int | None = None, *,
    total: float = 10, unit: str = "steps", eta_s: float | None = None,
) -> Progress:  # fmt: skip
    return Progress(
        id="x", stage="learn", done=done, total=total, unit=unit, loss=loss, k=k, eta_s=eta_s,
        final=False,
    )  # fmt: skip


def job(state: Any = "running", *, error: ErrorInfo | None = None) -> JobInfo:
    finished_at_s = None if state in ("queued", "running") else 63.5
    return JobInfo(
        job="a", request_type="prune", description="", state=state, created_at_s=60.0,
        finished_at_s=finished_at_s, error=error,
    )  # fmt: skip


def said(heard: Heard, of: JobInfo) -> list[str]:
    return ["".join(cell.text for cell in line) for line in heard.lines(of, PLAIN, 20)]


def test_curves_grow_and_begin_anew_with_the_next_run() -> None:
    heard = Heard()
    for step in range(5):
        heard.take(progress(step, loss=1 / (step + 1), k=100 - step))
    loss, kept = heard.curves()
    assert loss[0].x.tolist() == [0, 1, 2, 3, 4]
    assert kept[0].y.tolist() == [100, 99, 98, 97, 96]
    heard.take(progress(0, loss=2.0))
    assert heard.curves()[0][0].y.tolist() == [2.0]
    assert heard.curves()[1] == []


def test_a_long_curve_keeps_its_ends_and_stays_small() -> None:
    heard = Heard()
    for step in range(30_000):
        heard.take(progress(step, loss=float(step)))
    assert len(heard.points) <= 4001
    assert (heard.points[0][0], heard.points[-1][0]) == (0, 29_999)


@pytest.mark.parametrize(
    ("total", "unit", "x", "counts"),
    [
        (10, "steps", [1, 2], "steps done"),
        (3, "runs", [1, 2], "runs done"),
        (4, "", [25, 50], "% done"),
        (200, "%", [0.5, 1], "% done"),
    ],
)
def test_curves_say_what_they_run_along(total, unit, x, counts) -> None:
    heard = Heard()
    for done in (1, 2):
        heard.take(progress(done, loss=0.5, total=total, unit=unit))
    assert (heard.curves()[0][0].x.tolist(), heard.along) == (x, counts)


def test_a_single_run_is_told_by_its_share() -> None:
    heard = Heard()
    heard.take(progress(0.38, loss=0.5, total=1, unit="runs", eta_s=3.0))
    assert said(heard, job())[0] == "learn | 38% | loss 0.5 | 3.0 s left"
    assert (heard.curves()[0][0].x.tolist(), heard.along) == ([38], "% done")


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_a_job_that_ended_says_how_and_after_how_long_and_not_what_is_left(state) -> None:
    heard = Heard()
    heard.take(progress(9, loss=0.5, eta_s=0.245))
    assert "245 ms left" in said(heard, job())[0]
    assert said(heard, job(state)) == [f"{state} after 3.5 s"]


def test_after_the_answer_nothing_is_left_even_while_the_record_is_awaited() -> None:
    heard, found = Heard(), summaries(1)
    heard.take(progress(9, loss=0.5, eta_s=0.245))
    heard.end(PruneResult(id="x", circuits=found))
    (line,) = said(heard, job())
    assert found[0].id in line


def test_a_failure_is_explained_and_a_cancel_said_once() -> None:
    error = ErrorInfo(code="task_not_done", message="the model cannot do it", hint="Train it")
    assert said(Heard(), job("failed", error=error)) == [
        "failed after 3.5 s",
        "the model cannot do it",
        "Train it",
    ]
    error = ErrorInfo(code="cancelled", message="the request was cancelled")
    assert said(Heard(), job("cancelled", error=error)) == ["cancelled after 3.5 s"]


def test_what_a_job_found_is_listed_once() -> None:
    heard, found = Heard(), summaries(2)
    for _ in range(2):
        heard.take(PrunePart(id="x", circuits=found, final=False))
    control = Control(name="necessity", passed=True, sentence="The model needs it.")
    heard.take(VerifyPart(id="x", control=control, final=False))
    heard.take(progress(5, loss=0.5, k=9))
    lines = said(heard, job())
    assert lines[0] == "learn | 5 of 10 steps | loss 0.5 | 9 nodes"
    assert lines[1] == "#" * 10 + " " * 10
    assert lines[2] == "+ necessity  The model needs it."
    assert len(lines) == 5


# ---------------------------------------------------------------------------------------- plots


def test_circuits_by_size_are_a_series_for_each_sweep() -> None:
    series = sizes(summaries(3))
    assert series[0].points
    assert all(len(s.x) for s in series)
    assert sizes([]) == []


def test_a_prune_has_two_curves_or_none() -> None:
    curve = [PruneStep(step=i, loss=1.0 - i / 10, k=100 - i) for i in range(5)]
    loss, kept = pruning(curve)
    assert (loss[0].y[-1], kept[0].y[-1]) == (0.6, 96)
    assert pruning([]) == ([], [])


def test_metrics_that_belong_together_are_drawn_together() -> None:
    names = ("lr", "train_xent", "test_xent", "alive/layer_0", "alive/layer_1")
    found = TrainingCurvesShown(
        id="x",
        model="m",
        path="p",
        n_lines=2,
        steps=(1.0, 2.0),
        metrics=tuple(Metric(name=name, values=(1.0, None)) for name in names),
    )
    assert metric_groups(found) == [
        ("test_xent", "train_xent"),
        ("lr",),
        ("alive/layer_0", "alive/layer_1"),
    ]
    assert [len(s.x) for s in training(found, ("lr",))] == [1]


# ------------------------------------------------------------------------------------- examples


def test_pairs_are_lines_of_a_task_file(tmp_path: Path) -> None:
    one, two = Side("x = 'a", "'"), Side('x = "a', '"')
    for _ in range(2):
        path = add_pair("mine", one, two, tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(lines[0]) == ["description"]
    assert lines[1:] == [{"prompts": ["x = 'a", 'x = "a'], "targets": ["'", '"']}] * 2


def test_a_pair_that_teaches_nothing_and_a_name_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="differ"):
        add_pair("mine", Side("a", "x"), Side("b", "x"), tmp_path)
    with pytest.raises(InvalidRequest, match="name"):
        add_pair("../mine", Side("a", "x"), Side("b", "y"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_daemon_reads_what_was_written(tmp_path: Path) -> None:
    from circuitd.tasks.registry import TaskRegistry

    for i in range(5):
        add_pair("mine", Side(f"x{i} = 'a", "'"), Side(f'x{i} = "a', '"'), tmp_path)
    task = TaskRegistry([tmp_path]).get("mine")
    assert (task.n_pairs("train") or 0) + (task.n_pairs("held_out") or 0) == 5

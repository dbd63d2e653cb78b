"""`prune` in the worker: what is refused before the first run, and what a killed job keeps."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from circuit_protocol.circuit_replies import PruneResult
from circuit_protocol.circuit_requests import Prune
from circuit_protocol.circuits import PruneSettings
from circuit_protocol.interventions import SiteChannels
from circuit_protocol.replies import Failed
from circuit_protocol.requests import Ablate, TaskInput
from circuitd.circuits.nodes import node_space
from circuitd.worker.context import Context
from circuitd.worker.handlers import prune
from devices import DEVICES
from worker_desk import CONFIG, Desk

#: What handlers do, they do on every device of the machine.
pytestmark = pytest.mark.parametrize("desk", DEVICES, indirect=True)

MODEL, TASK = "tiny", "for_while"
ASKED = Prune(
    id="p",
    model=MODEL,
    tasks=(TASK,),
    ks=(4, 9),
    settings=PruneSettings(n_steps=3, n_pairs_per_step=4),
    n_pairs=8,
    n_held_out_pairs=8,
)


@pytest.fixture
def own_tasks(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test may put task files."""
    directory = tmp_path / "tasks"
    directory.mkdir()
    monkeypatch.setattr(desk.host.tasks, "_directories", (directory,))
    return directory


def write_task(directory: Path, name: str, answers: tuple[str, str]) -> None:
    one, other = answers
    pairs = [{"prompts": [f"x{i} = ", f"y{i} = "], "targets": [one, other]} for i in range(40)]
    (directory / f"{name}.json").write_text(json.dumps({"pairs": pairs}))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"ks": (4, 10**6)}, "invalid_request", "not as many nodes"),
        ({"tasks": (TASK, "for_whale")}, "not_found", "no such task"),
        ({"tasks": (TASK, "same")}, "invalid_request", "both targets are the same"),
        ({"tasks": (TASK, "long")}, "invalid_request", "token"),
        ({"sweep": "../up"}, "invalid_request", "folder"),
    ],
)
def test_what_no_run_could_mend_is_refused_before_the_first(
    desk, own_tasks, monkeypatch, change, code, says
):
    write_task(own_tasks, "same", ("1", "1"))
    write_task(own_tasks, "long", ("1", "nineteen_hundred"))
    monkeypatch.setattr(prune, "rank", None)  # nobody gets as far
    (replies,) = desk.ask_all([replace(ASKED, **change)])
    (answered,) = replies
    assert isinstance(answered.reply, Failed)
    assert answered.reply.error.code == code
    assert says in answered.reply.error.message
    assert desk.host.circuits.summaries() == ()


def test_a_task_the_model_cannot_do_is_refused_with_its_loss_before_learning(desk, monkeypatch):
    monkeypatch.setattr(prune, "rank", None)
    failed = desk.fail(replace(ASKED, ks=(), target_losses=(0.01,)))
    assert "does not reach the target" in failed.error.message
    all_nodes = tuple(SiteChannels(site=site.name) for site in node_space(CONFIG).sites)
    whole = Ablate(
        id="a", model=MODEL, input=TaskInput(task=TASK, n=8, split="train"), keep=all_nodes
    )
    loss = desk.ask(whole).reply.base_loss
    assert failed.error.found == f"a loss of {loss:.4f}"


@pytest.mark.parametrize(
    ("method", "ablation", "ranked_under"),
    [
        ("learned", "resample", "mean"),
        ("attribution", "resample", "mean"),
        ("random", "resample", None),
        ("learned", "zero", None),
    ],
)
def test_a_circuit_says_under_which_other_ablation_its_nodes_were_ranked(
    desk, method, ablation, ranked_under
):
    request = replace(ASKED, method=method, ablation=ablation, ks=(9,), save=False)
    (circuit,) = desk.ask(request).reply.found
    assert (circuit.ablation, circuit.found.ranked_under) == (ablation, ranked_under)
    # Its loss is under its own.
    given = TaskInput(task=TASK, n=8, split="train")
    asked = Ablate(id="a", model=MODEL, input=given, keep=circuit.nodes, kind=ablation)
    assert circuit.measured.loss == pytest.approx(desk.ask(asked).reply.base_loss, abs=1e-5)


def test_resampling_ranks_as_the_mean_does(desk):
    by_mean, by_resampling = (
        desk.ask(replace(ASKED, ablation=kind, ks=(9,), save=False)).reply.found[0].nodes
        for kind in ("mean", "resample")
    )
    assert by_mean == by_resampling


def test_a_target_out_of_reach_fails_alone(desk):
    result = desk.ask(replace(ASKED, target_losses=(0.01,))).reply
    assert isinstance(result, PruneResult)
    assert [(s.target_loss, s.target_k) for s in result.circuits] == [(None, 4), (None, 9)]
    assert [(f.target_loss, f.target_k) for f in result.failures] == [(0.01, None)]


def test_a_job_killed_between_two_targets_neither_learns_nor_cuts_the_first_again(
    desk, tmp_path, monkeypatch
):
    request = replace(ASKED, target_losses=(0.01,))
    whole = desk.ask(request).reply
    directory = tmp_path / "job"
    directory.mkdir()

    def steps():
        item = replace(desk.item(request), checkpoint_dir=str(directory))
        return prune.run(request, Context(desk.host, item, request))

    cut_at = []
    real = prune.cut

    def watched(problem, ranking, target, settings):
        cut_at.append((target.k, len(learned)))
        return real(problem, ranking, target, settings)

    learned = []
    advance = prune.Pruner.advance

    def counted(pruner):
        learned.append(pruner.step)
        return advance(pruner)

    monkeypatch.setattr(prune, "cut", watched)
    monkeypatch.setattr(prune.Pruner, "advance", counted)
    first = steps()
    while len(cut_at) < 2:
        next(first)
    first.close()
    last = list(steps())[-1]
    assert last is not None
    assert [k for k, _ in cut_at] == [4, 9, 9]
    assert learned == [0, 1, 2]
    found = last.reply
    assert isinstance(found, PruneResult)
    assert [s.id for s in found.circuits] == [s.id for s in whole.circuits]
    assert [(f.target_loss, f.target_k) for f in found.failures] == [(0.01, None)]

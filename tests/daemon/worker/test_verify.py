"""`verify` in the worker: parts and card, what is stored, what a killed job resumes from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from circuit_protocol.circuit_replies import VerifyPart, VerifyResult
from circuit_protocol.circuit_requests import Verify
from circuit_protocol.circuits import (
    Card,
    Circuit,
    Measured,
    Provenance,
    PruneSettings,
    VerifySettings,
)
from circuit_protocol.replies import Progress
from circuitd.circuits.nodes import node_space
from circuitd.circuits.value import node_set
from circuitd.circuits.verify import CONTROLS
from circuitd.store.pretraining_sample import SAMPLE_FILE
from circuitd.worker.context import Context
from circuitd.worker.handlers import verify
from devices import DEVICES
from worker_desk import CONFIG, Desk

#: What handlers do, they do on every device of the machine.
pytestmark = pytest.mark.parametrize("desk", DEVICES, indirect=True)

TASK = "single_double_quote"
SETTINGS = VerifySettings(
    n_pairs=8, n_bootstrap=20, n_random_circuits=3, n_random_subsets=3, n_seeds=1, n_null_steps=2
)
CONTROLS_IN_WORDS = [
    f"{name.replace('_', ' ')}, {i} of {len(CONTROLS)}" for i, name in enumerate(CONTROLS, 1)
]


@pytest.fixture
def circuit(desk: Desk) -> Circuit:
    """Random nodes of the tiny model, stored."""
    space = node_space(CONFIG)
    kept = np.random.default_rng(0).random(space.n_nodes) < 0.1
    found = Circuit(
        model=str(desk.key.path),
        model_hash=desk.model.model_hash,
        task=TASK,
        ablation="mean",
        nodes=node_set(space, kept),
        measured=Measured(
            k=int(kept.sum()), n_edges=0, loss=0.7, accuracy=0.5, model_loss=0.7, model_accuracy=0.5
        ),
        found=Provenance(
            origin="learned",
            target_loss=0.15,
            settings=PruneSettings(n_steps=2, n_pairs_per_step=4),
        ),
    )
    desk.host.circuits.save(found, "test")
    return found


def ref(circuit: Circuit) -> str:
    return f"{TASK}/test/{circuit.measured.k}"


def asked(circuit: Circuit, *controls, **changes) -> Verify:
    settings = replace(SETTINGS, controls=controls, **changes)
    return Verify(id="v", model=circuit.model, circuit=ref(circuit), settings=settings)


def stored_card(desk: Desk, circuit: Circuit) -> Card | None:
    return desk.host.circuits.get(ref(circuit)).card


def test_each_control_is_told_as_it_is_done_and_the_card_is_stored(desk, circuit):
    replies = [answered.reply for answered in desk.ask_all([asked(circuit)])[0]]
    parts = [reply.control for reply in replies if isinstance(reply, VerifyPart)]
    assert [control.name for control in parts] == list(CONTROLS)
    result = replies[-1]
    assert isinstance(result, VerifyResult)
    assert result.circuit == circuit
    assert result.card.controls == tuple(parts)
    assert result.card.verdict == "not supported"  # random nodes of a random model
    assert result.card.seconds > 0
    assert stored_card(desk, circuit) == result.card
    progress = [reply for reply in replies if isinstance(reply, Progress)]
    assert all(0 <= p.done <= 100 and p.total == 100 for p in progress)
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    numbers = [CONTROLS_IN_WORDS.index(p.stage) for p in progress]
    assert numbers == sorted(numbers)


def test_a_model_without_pretraining_text_leaves_random_weights_open(desk, circuit):
    card = desk.ask(asked(circuit, "random_weights")).reply.card
    assert [control.passed for control in card.controls] == [None]
    assert card.verdict == "depends"


def test_random_weights_take_their_means_from_the_sample(desk, circuit, model_directory):
    tokens = torch.randint(CONFIG.vocab_size, (2, 16), dtype=torch.int32)
    path = model_directory / SAMPLE_FILE
    save_file({"tokens": tokens}, path)
    try:
        card = desk.ask(asked(circuit, "random_weights")).reply.card
    finally:
        path.unlink()
    assert "permuted weights" in card.controls[0].sentence


def test_chosen_controls_run_alone_in_the_tables_order(desk, circuit):
    card = desk.ask(asked(circuit, "random_circuits", "held_out")).reply.card
    assert [control.name for control in card.controls] == ["held_out", "random_circuits"]


def test_the_same_request_gives_the_same_controls(desk, circuit):
    request = asked(circuit, "held_out", "necessity", "shuffled_labels", "seeds")
    first, second = (desk.ask(request).reply.card for _ in range(2))
    assert first.controls == second.controls


def steps(desk: Desk, request: Verify, checkpoints: Path):
    item = replace(desk.item(request), checkpoint_dir=str(checkpoints))
    return verify.run(request, Context(desk.host, item, request))


def parts(outputs) -> list[VerifyPart]:
    return [o.reply for o in outputs if o is not None and isinstance(o.reply, VerifyPart)]


def test_a_killed_job_goes_on_after_the_controls_it_had_done(desk, circuit, tmp_path, monkeypatch):
    request = asked(circuit, "held_out", "random_circuits", "faithfulness")
    checkpoints = tmp_path / "job"
    checkpoints.mkdir()
    run = steps(desk, request, checkpoints)
    before = []
    while len(before) < 2:
        before += parts([next(run)])
    run.close()
    assert stored_card(desk, circuit) is None

    carried_out = []
    whole = verify._carried_out

    def watched(context, trial, name, stage, done, total):
        carried_out.append(name)
        return (yield from whole(context, trial, name, stage, done, total))

    monkeypatch.setattr(verify, "_carried_out", watched)
    resumed = list(steps(desk, request, checkpoints))
    assert carried_out == ["faithfulness"]
    assert parts(resumed)[:2] == before
    card = resumed[-1].reply.card
    assert card.controls == desk.ask(request).reply.card.controls


def test_a_record_of_another_circuit_or_other_settings_is_not_used(desk, circuit, tmp_path):
    checkpoints = tmp_path / "job"
    checkpoints.mkdir()
    list(steps(desk, asked(circuit, "random_circuits"), checkpoints))
    other = asked(circuit, "random_circuits", n_random_circuits=5)
    card = list(steps(desk, other, checkpoints))[-1].reply.card
    assert "Of 5 random circuits" in card.controls[0].sentence


def test_a_circuit_nobody_knows_and_one_of_other_weights_are_refused(desk, circuit):
    unknown = Verify(id="v", model=circuit.model, circuit="0123abcd")
    assert desk.fail(unknown).error.code == "not_found"
    foreign = replace(circuit, model_hash="0" * 64, measured=replace(circuit.measured, k=1))
    desk.host.circuits.save(foreign, "foreign", label="other")
    request = Verify(id="v", model=circuit.model, circuit=f"{TASK}/foreign/other")
    assert desk.fail(request).error.code == "invalid_request"


def test_a_task_that_was_defined_anew_is_refused(desk, circuit):
    old = replace(circuit, task_signature="0123456789abcdef")
    desk.host.circuits.save(old, "old", label="1")
    failed = desk.fail(Verify(id="v", model=circuit.model, circuit=f"{TASK}/old/1"))
    assert failed.error.code == "invalid_request"
    assert "changed" in failed.error.message

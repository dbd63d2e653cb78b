"""`verify`: a circuit's controls one after another, each told as it is done, and the card."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Final

import torch
from msgspec.structs import replace

import circuitd
from circuit_protocol.circuit_replies import VerifyPart, VerifyResult
from circuit_protocol.circuit_requests import Verify
from circuit_protocol.circuits import (
    Card,
    Circuit,
    Control,
    ControlName,
    PruneSettings,
    VerifySettings,
    circuit_id,
)
from circuit_protocol.errors import InvalidRequest, NotFound
from circuitd.circuits.ablate import KEEP
from circuitd.circuits.find import check_answers
from circuitd.circuits.problem import Problem
from circuitd.circuits.value import mask_of
from circuitd.circuits.verify import CONTROLS, WEIGHTS, Trial, distinct_pairs, judge
from circuitd.store.circuits import place_of
from circuitd.store.pretraining_sample import read_pretraining_sample
from circuitd.tasks.signature import task_signature
from circuitd.worker.context import Context
from circuitd.worker.grounds import stored_circuit, task_prompts
from circuitd.worker.handlers.prune import N_POOL_PAIRS
from circuitd.worker.output import Output
from circuitd.worker.registry import Steps
from circuitd.worker.verify_record import VerifyRecord

#: Percent of the work that is done.
_ALL: Final = 100.0


def run(request: Verify, context: Context) -> Steps:
    """Carry out the controls, judge, store the card beside the circuit."""
    stored = stored_circuit(context, request.circuit)
    circuit, settings = stored.circuit, request.settings
    wanted = settings.controls or tuple(CONTROLS)
    names: list[ControlName] = [name for name in CONTROLS if name in wanted]
    record = VerifyRecord(context.checkpoint_dir, (circuit_id(circuit), settings))
    trial = _trial(context, circuit, settings)
    total = sum(WEIGHTS[name] for name in names)
    done = 0.0
    for number, name in enumerate(names, 1):
        control = record.control(name)
        if control is None:
            stage = f"{name.replace('_', ' ')}, {number} of {len(names)}"
            started_s = time.perf_counter()
            control = yield from _carried_out(context, trial, name, stage, done, total)
            record.add(control, time.perf_counter() - started_s)
        done += WEIGHTS[name]
        yield context.output(VerifyPart(id=request.id, final=False, control=control))
    card = _card(circuit, settings, record)
    context.host.circuits.put_card(place_of(stored.summary), card)
    yield context.output(VerifyResult(id=request.id, card=card, circuit=circuit))


def _carried_out(
    context: Context, trial: Trial, name: ControlName, stage: str, done: float, total: float
) -> Generator[Output | None, None, Control]:
    """One control, its steps told as progress of `stage`; `done` of `total` weights lie behind."""
    steps = CONTROLS[name](trial)
    share = 0.0
    while True:
        try:
            share = next(steps) or share
        except StopIteration as end:
            return end.value
        percent = _ALL * (done + share * WEIGHTS[name]) / total
        yield context.progress(stage, percent, _ALL, unit="%")


def _trial(context: Context, circuit: Circuit, settings: VerifySettings) -> Trial:
    """The circuit on its task: training pairs of the draw that it was cut on, held-out pairs of
    another draw, which nobody can have chosen it by.

    Raises InvalidRequest for a task that was defined anew since, TaskError for pairs that cannot
    be drawn, AnswersCoincide.
    """
    task, numbers = circuit.task, circuit.measured
    signature = task_signature(context.host.tasks.get(task))
    if circuit.task_signature and circuit.task_signature != signature:
        raise InvalidRequest(
            "the task's file has changed since the circuit was found",
            asked=task,
            found=f"signature {signature}, the circuit's {circuit.task_signature}",
            hint="Find the circuit again, or put the file back",
        )
    model, found = context.model, circuit.found
    mask = mask_of(circuit, model.config)
    seed, n = numbers.data_seed, settings.n_pairs
    problem = Problem(
        gated=model.gated(circuit.ablation),
        pool=task_prompts(context, task, "train", N_POOL_PAIRS, seed + 1),
        train=distinct_pairs(task_prompts(context, task, "train", n, seed)),
        held_out=distinct_pairs(
            task_prompts(context, task, "held_out", n, seed + 1 + settings.seed)
        ),
        ablation=circuit.ablation,
        resample_seed=seed,
    )
    check_answers(problem.train)
    prune = found.settings or PruneSettings()
    if settings.n_null_steps is not None:
        prune = replace(prune, n_steps=settings.n_null_steps)
    return Trial(
        problem=problem,
        kept=mask.codes == KEEP,
        cut_edges=mask.cuts,
        calibration=circuit.calibration,
        target_loss=found.target_loss,
        seed=found.seed,
        settings=settings,
        prune=prune,
        means=_means(context),
        text=_text(context),
        runs=context.host.fresh_runs,
        grounds=(model.key, model.model_hash, task, signature, circuit.ablation, n, seed),
    )


def _means(context: Context) -> torch.Tensor | None:
    """The pretraining means [n_nodes]; None for a model that comes without."""
    try:
        return context.model.gated("mean").ablated
    except NotFound:
        return None


def _text(context: Context) -> torch.Tensor | None:
    """The sample of pretraining text [N, T]; None for a model that comes without."""
    try:
        return torch.from_numpy(read_pretraining_sample(context.model.directory))
    except NotFound:
        return None


def _card(circuit: Circuit, settings: VerifySettings, record: VerifyRecord) -> Card:
    controls: tuple[Control, ...] = record.controls
    judgement = judge(controls)
    return Card(
        circuit=circuit_id(circuit),
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        controls=controls,
        settings=settings,
        depends_on=judgement.depends_on,
        version=circuitd.__version__,
        created_at_s=time.time(),
        seconds=record.seconds,
    )

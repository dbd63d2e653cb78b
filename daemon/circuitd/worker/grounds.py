"""What a circuit is measured on in a worker: the model at hand, a task's pairs, the means.

A circuit's numbers stand beside how many pairs of which draw they were taken on, so that numbers of
a circuit made from it can be taken on the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

import circuitd
from circuit_protocol.circuits import (
    Calibration,
    Circuit,
    EdgeGroup,
    Origin,
    Provenance,
    circuit_id,
)
from circuit_protocol.errors import NotFound
from circuit_protocol.messages import ModelRequest, Split
from circuit_protocol.requests import TaskInput
from circuitd.circuits.ablate import KEEP
from circuitd.circuits.edit import Parts
from circuitd.circuits.find import measure
from circuitd.circuits.problem import Problem
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.circuits.value import check_model, edges_of, kept_nodes, mask_of
from circuitd.engine.steps import Steps
from circuitd.store.circuits import StoredCircuit
from circuitd.tasks.signature import task_signature
from circuitd.worker.context import Context
from circuitd.worker.prompts import read_input

#: Pairs of each split where a circuit does not say on how many it was measured.
N_PAIRS: Final = 256


def stored_circuit(context: Context, ref: str) -> StoredCircuit:
    """The circuit that a request on a model refers to: rather one of that model.

    Raises NotFound, and InvalidRequest for a circuit of other weights.
    """
    request, store = context.request, context.host.circuits
    assert isinstance(request, ModelRequest)
    try:
        stored = store.get(ref, model=request.model)
    except NotFound:
        stored = store.get(ref)
    check_model(stored.circuit, context.model.model_hash, request.model)
    return stored


def task_prompts(context: Context, task: str, split: Split, n: int, seed: int) -> ScoredPrompts:
    """`n` pairs of a task with their answers, on the model's device: 2n rows.

    Raises TaskError and BadTokens for pairs that this model cannot be asked.
    """
    model, drawn = context.model, context.host.drawn
    signature = task_signature(context.host.tasks.get(task))
    key = (model.key, task, signature, split, n, seed)
    prompts = drawn.get(key)
    if prompts is not None:
        return prompts
    batch = read_input(context, TaskInput(task=task, n=n, split=split, seed=seed), model.config)
    assert batch.answers is not None  # tasks have answers
    parts = (batch.tokens, batch.lengths, batch.answers)
    return drawn.keep(key, ScoredPrompts(*(part.to(model.weights.device) for part in parts)))


def problem_of(context: Context, circuit: Circuit) -> Problem:
    """The task of a circuit on the pairs of the draw that its numbers were taken on."""
    numbers = circuit.measured
    n_train, n_held_out = numbers.n_pairs or N_PAIRS, numbers.n_held_out_pairs or N_PAIRS
    seed = numbers.data_seed
    train = task_prompts(context, circuit.task, "train", n_train, seed)
    return Problem(
        gated=context.model.gated(circuit.ablation),
        pool=train,
        train=train,
        held_out=task_prompts(context, circuit.task, "held_out", n_held_out, seed),
        ablation=circuit.ablation,
        resample_seed=seed,
    )


def measured(context: Context, circuit: Circuit, *, held_out: bool = True) -> Steps[Circuit]:
    """`circuit` with its numbers taken now: on as many pairs of the same draw as they were taken on
    before.

    The unpruned model's numbers are taken over where the circuit has them of the very same pairs.
    """
    problem = problem_of(context, circuit)
    mask = mask_of(circuit, context.model.config)
    kept = mask.codes == KEEP
    found = yield from measure(
        problem, kept, mask.cuts, calibration=circuit.calibration, held_out=held_out
    )
    outside = found.held_out
    numbers = replace(
        circuit.measured,
        k=found.k,
        n_edges=found.n_edges,
        loss=found.train.loss,
        accuracy=found.train.accuracy,
        held_out_loss=None if outside is None else outside.loss,
        held_out_accuracy=None if outside is None else outside.accuracy,
        n_pairs=len(problem.train) // 2,
        n_held_out_pairs=len(problem.held_out) // 2,
    )
    signature = task_signature(context.host.tasks.get(circuit.task))
    if not was_measured(circuit, signature) or numbers.model_held_out_loss is None:
        whole = np.ones(problem.space.n_nodes, dtype=bool)
        of_model = yield from problem.score(whole, problem.train)
        of_model_outside = yield from problem.score(whole, problem.held_out)
        numbers = replace(
            numbers,
            model_loss=of_model.loss,
            model_accuracy=of_model.accuracy,
            model_held_out_loss=of_model_outside.loss,
        )
    return replace(circuit, measured=numbers, task_signature=signature)


def was_measured(circuit: Circuit, signature: str) -> bool:
    """Whether the circuit's numbers are of the task as it is defined now (its `signature`)."""
    return bool(circuit.measured.n_pairs) and circuit.task_signature == signature


def derived(
    context: Context,
    parents: Sequence[Circuit],
    parts: Parts,
    origin: Origin,
    calibration: Calibration | None,
    *,
    held_out: bool = True,
) -> Steps[tuple[Circuit, tuple[EdgeGroup, ...], float]]:
    """The circuit that `parts` make, its edges, and its loss minus that of the first parent.

    It is measured on the pairs that the first parent was measured on. A parent that was not, or
    whose task has been defined anew since, is measured first.
    """
    started_s = time.perf_counter()
    first, weights = parents[0], context.model.weights
    signature = task_signature(context.host.tasks.get(first.task))
    if not was_measured(first, signature):
        first = yield from measured(context, first)
    made = replace(
        first,
        nodes=parts.nodes,
        cut_edges=parts.cut_edges,
        calibration=calibration,
        found=Provenance(
            origin=origin,
            version=circuitd.__version__,
            created_at_s=time.time(),
            seed=first.found.seed,
            parents=tuple(circuit_id(parent) for parent in parents),
        ),
    )
    groups = edges_of(weights, kept_nodes(made, weights.config), made.cut_edges)
    made = yield from measured(context, made, held_out=held_out)
    seconds = time.perf_counter() - started_s
    made = replace(made, found=replace(made.found, seconds=seconds))
    return made, groups, made.measured.loss - first.measured.loss

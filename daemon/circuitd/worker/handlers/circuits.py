"""`circuits.measure`, `edit`, `combine`: what a circuit's parts do, and circuits made of some."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

from msgspec.structs import replace

from circuit_protocol.circuit_replies import CircuitDerived, CircuitShown
from circuit_protocol.circuit_requests import CombineCircuits, EditCircuit, MeasureCircuit
from circuit_protocol.circuits import Circuit, CircuitDetails, EdgeGroup, circuit_id
from circuitd.circuits.edit import combined, edited
from circuitd.circuits.measure import PartsDone, measure_parts
from circuitd.store.circuits import place_of
from circuitd.worker.context import Context
from circuitd.worker.grounds import derived, problem_of, stored_circuit, task_prompts
from circuitd.worker.output import Output
from circuitd.worker.registry import Steps


def measure(request: MeasureCircuit, context: Context) -> Steps:
    """Deltas of every part, stored beside the circuit."""
    stored = stored_circuit(context, request.circuit)
    details = yield from part_deltas(context, stored.circuit, request.n_pairs, edges=request.edges)
    if stored.details is not None:
        details = replace(details, curve=stored.details.curve)
    summary = context.host.circuits.put_details(place_of(stored.summary), details)
    yield context.output(
        CircuitShown(
            id=request.id,
            summary=summary,
            circuit=stored.circuit,
            details=details,
            card=stored.card,
        )
    )


def part_deltas(
    context: Context, circuit: Circuit, n_pairs: int, *, edges: bool = True
) -> Generator[Output | None, None, CircuitDetails]:
    """The details of a circuit measured on `n_pairs` training pairs, with progress."""
    started_s = time.perf_counter()
    prompts = task_prompts(context, circuit.task, "train", n_pairs, circuit.measured.data_seed)
    steps = measure_parts(problem_of(context, circuit), prompts, circuit, edges=edges)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return replace(end.value, seconds=time.perf_counter() - started_s)
        if isinstance(step, PartsDone):
            yield context.progress("measure", step.done, step.total, unit="parts")
        else:
            yield None


def edit(request: EditCircuit, context: Context) -> Steps:
    """Drop and add parts of a circuit, and its loss then."""
    stored = stored_circuit(context, request.circuit)
    parts = edited(context.model.weights, stored.circuit, request)
    made, groups, delta = yield from derived(
        context,
        [stored.circuit],
        parts,
        "edited",
        stored.circuit.calibration,
        held_out=request.held_out or request.save,
    )
    yield _answer(context, request, made, groups, delta)


def combine(request: CombineCircuits, context: Context) -> Steps:
    """The union or intersection of circuits; without calibration, which was one circuit's own."""
    circuits = [stored_circuit(context, ref).circuit for ref in request.circuits]
    parts = combined(context.model.weights, circuits, request)
    made, groups, delta = yield from derived(context, circuits, parts, request.how, None)
    yield _answer(context, request, made, groups, delta)


def _answer(
    context: Context,
    request: EditCircuit | CombineCircuits,
    made: Circuit,
    groups: Sequence[EdgeGroup],
    delta: float,
) -> Output:
    saved = None
    if request.save:
        details = CircuitDetails(edges=tuple(groups))
        saved = context.host.circuits.save(made, request.sweep, details=details)
    return context.output(
        CircuitDerived(
            id=request.id,
            circuit_id=circuit_id(made),
            circuit=made,
            saved=saved is not None,
            sweep=None if saved is None else saved.sweep,
            label=None if saved is None else saved.label,
            delta=delta,
            compute_s=context.elapsed_s,
        )
    )

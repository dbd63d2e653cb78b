"""`circuits.*`: the catalogue, one circuit, two of them, and changed ones."""

from collections.abc import Iterable
from typing import Literal, Unpack

from circuit_client.call import UNSENT_ID, Call, Received, progress_only, read_done, whole
from circuit_client.circuit_answers import NodeActivity
from circuit_client.prompts import NodesLike, pack_nodes
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.circuit_replies import (
    CircuitDerived,
    CircuitDiff,
    CircuitList,
    CircuitShown,
    NodeSampled,
)
from circuit_protocol.circuit_requests import (
    CombineCircuits,
    DeleteCircuit,
    DiffCircuits,
    EditCircuit,
    ListCircuits,
    MeasureCircuit,
    NodeSamples,
    ShowCircuit,
)
from circuit_protocol.circuits import CircuitSummary
from circuit_protocol.replies import Progress
from circuit_protocol.requests import Edge

#: A circuit's id or a unique beginning of it, its place `task/sweep/label`, or an answer with one.
CircuitLike = str | CircuitSummary | CircuitShown | CircuitDerived


def reference(circuit: CircuitLike) -> str:
    """What the protocol calls `circuit` by."""
    match circuit:
        case str():
            return circuit
        case CircuitShown():
            return circuit.summary.id
        case CircuitSummary():
            return circuit.id
        case CircuitDerived():
            return circuit.circuit_id


def model_of(circuit: CircuitLike, model: str | None) -> str | None:
    """`model`, else the one that an answer about the circuit names, else None (the default)."""
    match circuit:
        case _ if model is not None:
            return model
        case CircuitSummary():
            return circuit.model
        case CircuitShown() | CircuitDerived():
            return circuit.circuit.model
        case _:
            return None


def list_circuits(
    model: str | None = None,
    *,
    task: str | None = None,
    sweep: str | None = None,
    k: int | None = None,
    limit: int = 1000,
) -> Call[Progress, tuple[CircuitSummary, ...]]:
    """The catalogue, newest first; each filter given must match."""

    def read(received: Received) -> tuple[CircuitSummary, ...]:
        return received.expect(CircuitList).circuits

    request = ListCircuits(id=UNSENT_ID, model=model, task=task, sweep=sweep, k=k, limit=limit)
    return Call(request, read, progress_only)


def show(circuit: CircuitLike, *, model: str | None = None) -> Call[Progress, CircuitShown]:
    """One circuit with its details and its card, as stored."""
    request = ShowCircuit(id=UNSENT_ID, circuit=reference(circuit), model=model)
    return Call(request, whole(CircuitShown), progress_only)


def delete(circuit: CircuitLike, *, model: str | None = None) -> Call[Progress, bool]:
    """Remove a circuit's files; shipped circuits are refused."""
    request = DeleteCircuit(id=UNSENT_ID, circuit=reference(circuit), model=model)
    return Call(request, read_done, progress_only, resend=False)


def diff(
    before: CircuitLike, after: CircuitLike, *, model: str | None = None
) -> Call[Progress, CircuitDiff]:
    """Nodes and edges that one circuit has and the other has not; changes of loss and deltas."""
    request = DiffCircuits(
        id=UNSENT_ID, before=reference(before), after=reference(after), model=model
    )
    return Call(request, whole(CircuitDiff), progress_only)


def measure(
    circuit: CircuitLike,
    model: str | None = None,
    *,
    n_pairs: int = 32,
    edges: bool = True,
    **options: Unpack[ModelOptions],
) -> Call[Progress, CircuitShown]:
    """What ablating each node, edge and half block alone adds to the loss; stored with it."""
    fields, progress = sort_options(model_of(circuit, model), options)
    request = MeasureCircuit(circuit=reference(circuit), n_pairs=n_pairs, edges=edges, **fields)
    return Call(request, whole(CircuitShown), progress_only, progress=progress)


def edit(
    circuit: CircuitLike,
    model: str | None = None,
    *,
    drop: NodesLike = (),
    add: NodesLike = (),
    drop_edges: Iterable[Edge] = (),
    add_edges: Iterable[Edge] = (),
    save: bool = False,
    sweep: str = "edited",
    held_out: bool = True,
    **options: Unpack[ModelOptions],
) -> Call[Progress, CircuitDerived]:
    """Drop and add nodes or edges: the new circuit, its loss, and by how much that changed.

    Without `held_out` it is measured on the training pairs only, in half the time.
    """
    fields, progress = sort_options(model_of(circuit, model), options)
    request = EditCircuit(
        circuit=reference(circuit),
        drop=pack_nodes(drop),
        add=pack_nodes(add),
        drop_edges=tuple(drop_edges),
        add_edges=tuple(add_edges),
        save=save,
        sweep=sweep,
        held_out=held_out,
        **fields,
    )
    return Call(request, whole(CircuitDerived), progress_only, resend=not save, progress=progress)


def union(
    *circuits: CircuitLike,
    model: str | None = None,
    save: bool = False,
    sweep: str = "combined",
    **options: Unpack[ModelOptions],
) -> Call[Progress, CircuitDerived]:
    """All nodes of two or more circuits of one model and task, measured."""
    return _combine("union", circuits, model, save, sweep, options)


def intersection(
    *circuits: CircuitLike,
    model: str | None = None,
    save: bool = False,
    sweep: str = "combined",
    **options: Unpack[ModelOptions],
) -> Call[Progress, CircuitDerived]:
    """The nodes that two or more circuits of one model and task share, measured."""
    return _combine("intersection", circuits, model, save, sweep, options)


def _combine(
    how: Literal["union", "intersection"],
    circuits: tuple[CircuitLike, ...],
    model: str | None,
    save: bool,
    sweep: str,
    options: ModelOptions,
) -> Call[Progress, CircuitDerived]:
    fields, progress = sort_options(model_of(circuits[0], model) if circuits else model, options)
    names = tuple(map(reference, circuits))
    request = CombineCircuits(circuits=names, how=how, save=save, sweep=sweep, **fields)
    return Call(request, whole(CircuitDerived), progress_only, resend=not save, progress=progress)


def samples(
    site: str,
    channel: int,
    model: str | None = None,
    *,
    circuit: CircuitLike | None = None,
    task: str | None = None,
    n_windows: int = 5,
    context: int = 50,
    n_pairs: int = 16,
    n_attention_pairs: int = 2,
    seed: int = 0,
    **options: Unpack[ModelOptions],
) -> Call[Progress, NodeActivity]:
    """Where a node is active, in the whole model or in a circuit: pretraining text, task prompts.

    `context` is how many tokens before and after each sampled one come along. A query, key or value
    brings the attention of its head on the first `n_attention_pairs` of the task's pairs.
    """
    if circuit is not None:
        model = model_of(circuit, model)
    fields, progress = sort_options(model, options)
    request = NodeSamples(
        site=site,
        channel=int(channel),
        task=task,
        circuit=None if circuit is None else reference(circuit),
        n_windows=n_windows,
        context=context,
        n_pairs=n_pairs,
        n_attention_pairs=n_attention_pairs,
        seed=seed,
        **fields,
    )

    def read(received: Received) -> NodeActivity:
        return NodeActivity(received.expect(NodeSampled), received)

    return Call(request, read, progress_only, progress=progress)

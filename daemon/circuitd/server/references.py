"""What a request names that files alone can tell: looked up before it becomes a job.

Who asks for a job's result may do so a day later, so that what is known to be wrong is said now:
circuits and tasks that nobody knows, sweeps that cannot be folders, more nodes than the model has.
What takes the model itself is for the job's first look, before any work: whether a circuit's hash
is this model's, and whether a pair's two answers are two single tokens of its tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuit_protocol import circuit_requests as cq
from circuit_protocol import requests as r
from circuit_protocol.errors import InvalidRequest, NotFound
from circuitd.server.catalog import Located
from circuitd.store.circuits import CircuitStore, check_folder


def check_references(
    request: r.ModelRequest,
    located: Located | None,
    circuits: CircuitStore,
    task_directories: Sequence[Path],
) -> None:
    """Raise NotFound or InvalidRequest for what cannot be; `located` None: fetched later.

    Reads the disk: not for the loop.
    """
    for sweep in _sweeps(request):
        check_folder("sweep", sweep)
    if tasks := _tasks(request):
        _check_tasks(tasks, task_directories)
    for ref in _circuits(request):
        try:
            circuits.get(ref, model=request.model)
        except NotFound:
            circuits.get(ref)
    if isinstance(request, cq.Prune) and located is not None and located.n_nodes is not None:
        _check_counts(request.ks, located.n_nodes)


def _check_tasks(names: Sequence[str], directories: Sequence[Path]) -> None:
    # Generators and their words: a daemon that never sees a task need not load them.
    from circuitd.tasks.errors import TaskError
    from circuitd.tasks.refusal import as_refusal
    from circuitd.tasks.registry import TaskRegistry

    registry = TaskRegistry(directories)
    for name in names:
        try:
            registry.get(name)
        except TaskError as error:
            raise as_refusal(error) from error


def _check_counts(ks: Sequence[int], n_nodes: int) -> None:
    if ks and max(ks) > n_nodes:
        raise InvalidRequest(
            "there are not as many nodes",
            asked=f"k = {max(ks)}",
            found=f"a model of {n_nodes} nodes",
            hint=f"k is 0 to {n_nodes}",
        )


def _circuits(request: r.ModelRequest) -> tuple[str, ...]:
    match request:
        case cq.Verify() | cq.MeasureCircuit() | cq.EditCircuit() | cq.ExportCircuit():
            return (request.circuit,)
        case cq.CombineCircuits():
            return request.circuits
        case cq.NodeSamples(circuit=str() as circuit):
            return (circuit,)
        case _:
            return ()


def _tasks(request: r.ModelRequest) -> tuple[str, ...]:
    match request:
        case cq.Prune() | r.EvaluateTasks():
            return request.tasks
        case cq.NodeSamples(task=str() as task) | cq.ImportCircuit(task=str() as task):
            return (task,)
        case r.Hook(input=r.TaskInput(task=task)) | r.Ablate(input=r.TaskInput(task=task)):
            return (task,)
        case r.SampleTask(input=r.TaskInput(task=task)):
            return (task,)
        case _:
            return ()


def _sweeps(request: r.ModelRequest) -> tuple[str, ...]:
    match request:
        case cq.Prune(save=True, sweep=str() as sweep):
            return (sweep,)
        case cq.EditCircuit(save=True, sweep=sweep) | cq.CombineCircuits(save=True, sweep=sweep):
            return (sweep,)
        case cq.ImportCircuit(sweep=sweep):
            return (sweep,)
        case _:
            return ()

"""`circuits.import_*`, `circuits.export_viz_data`: circuits from elsewhere, and for elsewhere."""

import os
from pathlib import Path
from typing import Unpack

import msgspec
import numpy as np

from circuit_client.call import Call, Received, progress_only, whole
from circuit_client.circuit_answers import VizData
from circuit_client.values import Parcel
from circuit_client.verbs.circuits import CircuitLike, model_of, reference
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.circuit_replies import CircuitExported, CircuitShown
from circuit_protocol.circuit_requests import ExportCircuit, ImportCircuit
from circuit_protocol.circuits import Circuit
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.replies import Progress


def import_circuit(
    circuit: Circuit,
    model: str | None = None,
    *,
    sweep: str = "imported",
    note: str = "",
    **options: Unpack[ModelOptions],
) -> Call[Progress, CircuitShown]:
    """Store a circuit value; refused whole if it does not fit the model."""
    fields, progress = sort_options(model, options)
    request = ImportCircuit(circuit=circuit, sweep=sweep, note=note, **fields)
    return Call(request, whole(CircuitShown), progress_only, progress=progress)


def import_file(
    path: str | os.PathLike[str],
    model: str | None = None,
    *,
    task: str | None = None,
    sweep: str = "imported",
    note: str = "",
    **options: Unpack[ModelOptions],
) -> Call[Progress, CircuitShown]:
    """Store a circuit from a file: one exported as JSON, or a published `viz_data.pt`.

    A published file names no task, so `task` is needed with one. Raises FileNotFoundError.
    """
    file = Path(path)
    if file.suffix.lower() == ".json":
        circuit = read_json(file)
        if task is not None and task != circuit.task:
            raise InvalidRequest("this circuit is another task's", asked=task, found=circuit.task)
        return import_circuit(circuit, model, sweep=sweep, note=note, **options)
    fields, progress = sort_options(model, options)
    parcel = Parcel()
    data = parcel.array(np.frombuffer(file.read_bytes(), dtype=np.uint8))
    request = ImportCircuit(viz_data=data, task=task, sweep=sweep, note=note, **fields)
    return Call(
        request,
        whole(CircuitShown),
        progress_only,
        frames=tuple(parcel.frames),
        progress=progress,
    )


class _Exported(msgspec.Struct):
    """What an export as JSON holds, as far as an import needs it."""

    circuit: Circuit


def read_json(file: Path) -> Circuit:
    """The circuit of a file that `circuits export --format json` wrote, or of a bare one."""
    data = file.read_bytes()
    problem = ""
    for whole_file in (True, False):
        try:
            if whole_file:
                return msgspec.json.decode(data, type=_Exported).circuit
            return msgspec.json.decode(data, type=Circuit)
        except msgspec.DecodeError as e:
            problem = problem or str(e)
    raise InvalidRequest("this file holds no circuit", asked=str(file), found=problem)


def export_viz_data(
    circuit: CircuitLike,
    model: str | None = None,
    *,
    n_task_pairs: int = 16,
    **options: Unpack[ModelOptions],
) -> Call[Progress, VizData]:
    """The circuit as a published `viz_data.pt`, node samples included."""
    fields, progress = sort_options(model_of(circuit, model), options)
    request = ExportCircuit(circuit=reference(circuit), n_task_pairs=n_task_pairs, **fields)

    def read(received: Received) -> VizData:
        return VizData(received.expect(CircuitExported), received)

    return Call(request, read, progress_only, progress=progress)

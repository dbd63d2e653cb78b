"""Requests about circuits: find them, look at them, change them, doubt them."""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.circuits import Circuit, Method, PruneSettings, VerifySettings
from circuit_protocol.interventions import NodeSet, Values
from circuit_protocol.messages import AblationKind, Edge, ModelRequest, Name, Request

#: A circuit's id, a unique beginning of it, or its place: `task/sweep/label` or
#: `model/task/sweep/label`.
CircuitRef = Name


class Prune(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="prune"):
    """Find circuits: each task with each seed, for each target loss and each k.

    Without `target_losses` and `ks` the target is a loss of 0.15. One ranking of the nodes is made
    per task and seed and cut at each target by bisection on fixed pairs. `search` tries that many
    settings around the given ones and keeps the best per task. Found circuits are stored under
    `sweep` (None: a name from method, ablation and seed) unless `save` is false.

    What is resampled has no value of its own that a gate or a gradient could lead to. So under
    `ablation` "resample" nodes are ranked as under "mean" (all methods but activation patching and
    chance, which need no such value), while the ranking is cut, trimmed and scored by resampling.
    """

    tasks: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=256)]
    target_losses: tuple[Annotated[float, msgspec.Meta(gt=0, le=100)], ...] = ()
    ks: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    seeds: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=256)] = (0,)
    method: Method = "learned"
    ablation: AblationKind = "mean"
    settings: PruneSettings = PruneSettings()
    search: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    sweep: Name | None = None
    save: bool = True
    n_pairs: Annotated[int, msgspec.Meta(ge=2, le=16384)] = 256
    n_held_out_pairs: Annotated[int, msgspec.Meta(ge=2, le=16384)] = 256
    data_seed: int = 0
    priority: Literal["interactive", "batch"] = "batch"


class Verify(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="verify"):
    """Put a circuit to its controls; the answer is a card with a verdict, stored beside it."""

    circuit: CircuitRef
    settings: VerifySettings = VerifySettings()
    priority: Literal["interactive", "batch"] = "batch"


class ListCircuits(Request, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.list"):
    """The catalogue, newest first; each filter given must match."""

    model: Name | None = None
    task: Name | None = None
    sweep: Name | None = None
    k: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000


class ShowCircuit(Request, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.show"):
    """One circuit with its details and its card, as stored."""

    circuit: CircuitRef
    model: Name | None = None


class DeleteCircuit(Request, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.delete"):
    """Remove a circuit's files. Shipped circuits (read-only) are refused."""

    circuit: CircuitRef
    model: Name | None = None


class DiffCircuits(Request, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.diff"):
    """What `after` has and `before` has not, and the reverse. Both of one model."""

    before: CircuitRef
    after: CircuitRef
    model: Name | None = None


class MeasureCircuit(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.measure"
):
    """Compute the details of a circuit (deltas of nodes, edges and layers) and store them."""

    circuit: CircuitRef
    n_pairs: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 32
    edges: bool = True


class EditCircuit(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.edit"):
    """Drop and add nodes or edges of a circuit and measure it at once; `save` keeps the result.

    Without `held_out` it is measured on the training pairs only, in half the time; one that is
    saved is always measured on both.
    """

    circuit: CircuitRef
    drop: NodeSet = ()
    add: NodeSet = ()
    drop_edges: tuple[Edge, ...] = ()
    add_edges: tuple[Edge, ...] = ()
    save: bool = False
    sweep: Name = "edited"
    held_out: bool = True


class CombineCircuits(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.combine"
):
    """The union or the intersection of circuits of one model and task, measured."""

    circuits: Annotated[tuple[CircuitRef, ...], msgspec.Meta(min_length=2, max_length=256)]
    how: Literal["union", "intersection"]
    save: bool = False
    sweep: Name = "combined"


class NodeSamples(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.samples"
):
    """Where a node is active: windows of pretraining text around its smallest and largest values,
    at several fractions of the distribution, and its values on the task's prompts.

    Without `circuit` in the whole model, else in the circuit. A query, key or value comes with the
    attention pattern of its head on the first `n_attention_pairs` of these prompts.
    """

    site: Name
    channel: Annotated[int, msgspec.Meta(ge=0)]
    task: Name | None = None
    circuit: CircuitRef | None = None
    n_windows: Annotated[int, msgspec.Meta(ge=1, le=64)] = 5
    #: Tokens before and after the one sampled.
    context: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 50
    n_pairs: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    n_attention_pairs: Annotated[int, msgspec.Meta(ge=0, le=16)] = 2
    seed: int = 0


class ImportCircuit(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.import"
):
    """Store a circuit from elsewhere: a `Circuit`, or the bytes of a published `viz_data.pt` (U8).

    A published file names no task: `task` does. It is checked against the model whole before
    anything is written.
    """

    circuit: Circuit | None = None
    viz_data: Values | None = None
    task: Name | None = None
    sweep: Name = "imported"
    note: str = ""


class ExportCircuit(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.export"
):
    """The circuit as the bytes of a published `viz_data.pt`, node samples included."""

    circuit: CircuitRef
    n_task_pairs: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16


CircuitRequest = (
    Prune
    | Verify
    | ListCircuits
    | ShowCircuit
    | DeleteCircuit
    | DiffCircuits
    | MeasureCircuit
    | EditCircuit
    | CombineCircuits
    | NodeSamples
    | ImportCircuit
    | ExportCircuit
)

"""Replies about circuits."""

from typing import Literal

import msgspec

from circuit_protocol.circuits import Card, Circuit, CircuitDetails, CircuitSummary, Control
from circuit_protocol.errors import ErrorInfo
from circuit_protocol.interventions import NodeSet, Values
from circuit_protocol.messages import Edge, Reply
from circuit_protocol.tensors import Tensor


class PruneFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task, seed and target for which no circuit was found, and why."""

    task: str
    seed: int
    error: ErrorInfo
    target_loss: float | None = None
    target_k: int | None = None


class PruneTrial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try of a search: the settings that were tried, as JSON, and the circuit's size there.

    `k` None: the target was not reached, or the run failed; `error` says how.
    """

    task: str
    seed: int
    settings_json: str
    k: int | None
    loss: float | None
    error: str = ""


class PrunePart(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="prune.part"):
    """Circuits and failures since the last part. Never final."""

    circuits: tuple[CircuitSummary, ...] = ()
    failures: tuple[PruneFailure, ...] = ()


class PruneResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="prune.result"):
    """Answers prune: everything found, everything that failed, and the search's history.

    With `save` false the circuits themselves come along in `found`, in the same order.
    """

    circuits: tuple[CircuitSummary, ...]
    failures: tuple[PruneFailure, ...] = ()
    trials: tuple[PruneTrial, ...] = ()
    found: tuple[Circuit, ...] = ()
    compute_s: float = 0.0


class VerifyPart(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="verify.part"):
    """A control as it is done. Never final."""

    control: Control


class VerifyResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="verify.result"):
    """Answers verify."""

    card: Card
    circuit: Circuit


class CircuitList(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.listed"):
    """Answers circuits.list."""

    circuits: tuple[CircuitSummary, ...]


class CircuitShown(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.shown"):
    """Answers circuits.show, circuits.measure and circuits.import."""

    summary: CircuitSummary
    circuit: Circuit
    details: CircuitDetails | None = None
    card: Card | None = None


class CircuitDerived(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.derived"):
    """Answers circuits.edit and circuits.combine: the new circuit, its id, and what it cost.

    `delta` is its loss minus that of the circuit it came from (of the first one, combined). For a
    `saved` circuit `sweep` and `label` say where.
    """

    circuit_id: str
    circuit: Circuit
    delta: float
    saved: bool = False
    sweep: str | None = None
    label: str | None = None
    compute_s: float = 0.0


class ImportanceChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node of both circuits whose delta differs; nats."""

    site: str
    channel: int
    before: float
    after: float


class CircuitDiff(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.compared"):
    """Answers circuits.diff. `jaccard` is shared nodes over all nodes of either; `loss_change` is
    the loss of `after` minus that of `before`; `changes` come largest first.
    """

    before: CircuitSummary
    after: CircuitSummary
    added: NodeSet
    removed: NodeSet
    shared: NodeSet
    added_edges: tuple[Edge, ...]
    removed_edges: tuple[Edge, ...]
    jaccard: float
    loss_change: float
    #: False: one of the two is stored without its edges (measure it), so none are compared.
    edges_known: bool = True
    changes: tuple[ImportanceChange, ...] = ()


class SampleWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens around one sampled position, and the node's value at each of them."""

    tokens: tuple[int, ...]
    activations: tuple[float, ...]
    position: int


class SampleBand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Windows from the lower or upper `fraction` of a node's distribution."""

    fraction: float
    end: Literal["bottom", "top"]
    windows: tuple[SampleWindow, ...]


class NodeSampled(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.sampled"):
    """Answers circuits.samples. Task tensors: tokens [2n, T], lengths [2n], activations [2n, T];
    row i and row i+n are a pair. `quantiles` are of the pretraining text at 0, .001, .01, .1, .5,
    .9, .99, .999 and 1.

    Of a query, key or value on a task also `attention` [2m, T', keys], the pattern of its `head` on
    rows 0 to m-1 and n to n+m-1, of which the longest has T' tokens: by query and key; the sink,
    where there is one, is one more last key.

    `bias` is what the model adds to the node whatever it reads, of a neuron before its activation
    function; None where there is none, as at what a block reads.
    """

    site: str
    channel: int
    mean: float
    quantiles: tuple[float, ...]
    bands: tuple[SampleBand, ...]
    task_tokens: Tensor | None = None
    task_lengths: Tensor | None = None
    task_activations: Tensor | None = None
    head: int | None = None
    attention: Tensor | None = None
    bias: float | None = None


class CircuitExported(
    Reply, frozen=True, kw_only=True, omit_defaults=True, tag="circuits.exported"
):
    """Answers circuits.export: the bytes of the file (U8)."""

    data: Values
    file_name: str


CircuitReply = (
    PrunePart
    | PruneResult
    | VerifyPart
    | VerifyResult
    | CircuitList
    | CircuitShown
    | CircuitDerived
    | CircuitDiff
    | NodeSampled
    | CircuitExported
)

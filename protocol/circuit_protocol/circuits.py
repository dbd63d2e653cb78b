"""Circuits as values: what one is, how it was found, what was measured, and whether to believe it.

A circuit is a set of nodes of one model; every other node is held at its ablated value. Its id
follows from what it is (model hash, task, ablation, nodes, cut edges, calibration) and not from
how it was found or when, so the same circuit found twice has one id. Losses are the mean per side.
"""

import hashlib
from typing import Annotated, Final, Literal

import msgspec

from circuit_protocol.interventions import NodeSet
from circuit_protocol.messages import AblationKind, Edge, Name

#: How a circuit's nodes are chosen. "learned" is the published algorithm; the rest are rankings to
#: compare with: the gradient of the loss times (activation - ablated value), once or integrated
#: along the way; removing the node that matters least, again and again; size of the activation's
#: deviation from its mean; and chance.
Method = Literal[
    "learned",
    "attribution",
    "integrated_gradients",
    "activation_patching",
    "magnitude",
    "random",
]
#: What else can have made a circuit.
Origin = Literal[
    "learned",
    "attribution",
    "integrated_gradients",
    "activation_patching",
    "magnitude",
    "random",
    "edited",
    "union",
    "intersection",
    "imported",
]
N_ID_DIGITS: Final = 16


class Calibration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Applied to the two answer logits: `scale` times them, plus `bias` on the first side's answer.

    A shift of both logits would not change their softmax; hence a bias of one class.
    """

    scale: float
    bias: float


class PruneSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every hyper-parameter of pruning. The names of the published ones are the published names.

    Published: `k_coef` (loss per open gate), `init_noise_scale`, `init_noise_bias`, `weight_decay`,
    `lr`, `beta2`, `lr_warm_up` (share of the steps), `heaviside_temp`, `n_pairs_per_step`.
    Left open by the paper, chosen here: `n_steps`, `clip_norm` (None: no clipping), `beta1`,
    `open_at_zero` (H(0)), `rank_by` (ties of tau at its clamp are broken by a running mean of tau).

    Beyond the paper, each optional: `stochastic_rest` (chance with which a closed gate's node is
    left in during a step), `greedy` (remove nodes one by one while the target still holds),
    `prune_edges` (then cut single edges likewise), `calibrate` (16 L-BFGS steps for a scale and a
    bias of the answers' logits).
    """

    n_steps: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200
    n_pairs_per_step: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 32
    k_coef: Annotated[float, msgspec.Meta(ge=0, le=1e3)] = 1e-3
    init_noise_scale: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1e-2
    init_noise_bias: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 1e-1
    weight_decay: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1e-3
    lr: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.5e-2
    beta1: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.95
    lr_warm_up: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    heaviside_temp: Annotated[float, msgspec.Meta(gt=0, le=1e3)] = 1.0
    clip_norm: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = 1.0
    open_at_zero: bool = True
    rank_by: Literal["tau", "mean_tau"] = "mean_tau"
    stochastic_rest: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    greedy: bool = False
    prune_edges: bool = False
    calibrate: bool = False


class Provenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a circuit came about; enough to make it again.

    `parents` are ids of the circuits it was edited or combined from. `imported_config` is the
    configuration that an imported file carried, as JSON. `ranked_under` is what the other nodes
    were held at while nodes were ranked, where that differs from the circuit's ablation.
    """

    origin: Origin
    version: str = ""
    created_at_s: float = 0.0
    seconds: float = 0.0
    seed: int = 0
    target_loss: float | None = None
    target_k: int | None = None
    settings: PruneSettings | None = None
    ranked_under: AblationKind | None = None
    n_trials: int = 0
    parents: tuple[str, ...] = ()
    imported_config: str | None = None
    note: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a circuit does on its task: nats per side, shares of prompts answered right.

    `loss` is on the pairs it was fitted to the target on, `held_out_loss` on held-out templates;
    `model_*` are the unpruned model's on the same prompts. `n_pairs` and `data_seed` say which.
    """

    k: int
    n_edges: int
    loss: float
    accuracy: float
    model_loss: float
    model_accuracy: float
    held_out_loss: float | None = None
    held_out_accuracy: float | None = None
    model_held_out_loss: float | None = None
    n_pairs: int = 0
    n_held_out_pairs: int = 0
    data_seed: int = 0


class Circuit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A circuit. `nodes` are in the model's site order, channels ascending, no site empty."""

    model: Name
    model_hash: str
    task: Name
    ablation: AblationKind
    nodes: NodeSet
    measured: Measured
    found: Provenance
    #: Edges between kept nodes that are cut all the same (edge-level pruning).
    cut_edges: tuple[Edge, ...] = ()
    calibration: Calibration | None = None
    #: Signature of the task's definition where it is a file of the user's, else empty.
    task_signature: str = ""


def circuit_id(circuit: Circuit) -> str:
    """The content id: 16 hexadecimal digits of the SHA-256 of what the circuit is."""
    what = (
        circuit.model_hash,
        circuit.task,
        circuit.task_signature,
        circuit.ablation,
        circuit.nodes,
        circuit.cut_edges,
        circuit.calibration,
    )
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()[
        :N_ID_DIGITS
    ]


# ------------------------------------------------------------------------------------- details


class EdgeGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The edges of one weight matrix: entry i goes from `source_channels[i]` to
    `target_channels[i]`. `deltas` are what cutting it alone adds to the circuit's loss, in nats.
    """

    source: str
    target: str
    source_channels: tuple[int, ...]
    target_channels: tuple[int, ...]
    weights: tuple[float, ...]
    deltas: tuple[float, ...] = ()


class NodeDeltas(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ablating each kept node of a site alone adds to the circuit's loss, in nats."""

    site: str
    channels: tuple[int, ...]
    deltas: tuple[float, ...]


class LayerDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ablating all kept nodes of one half block adds to the circuit's loss, in nats."""

    layer: int
    half: Literal["attn", "mlp"]
    n_nodes: int
    delta: float


class PruneStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A point of the curve of loss during pruning: nodes kept and loss at a step."""

    step: int
    loss: float
    k: int


class CircuitDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Importances of a circuit's parts and the history of its finding."""

    edges: tuple[EdgeGroup, ...] = ()
    nodes: tuple[NodeDeltas, ...] = ()
    layers: tuple[LayerDelta, ...] = ()
    curve: tuple[PruneStep, ...] = ()
    #: Prompts that the deltas were measured on.
    n_pairs: int = 0
    seconds: float = 0.0


class CircuitSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A circuit as a list shows it. `sweep` and `label` are its place in the artefact tree."""

    id: str
    model: str
    task: str
    sweep: str
    label: str
    ablation: AblationKind
    origin: Origin
    measured: Measured
    seed: int = 0
    target_loss: float | None = None
    target_k: int | None = None
    created_at_s: float = 0.0
    verdict: str | None = None
    #: Lies in a root that the daemon does not write to.
    read_only: bool = False
    #: Why the files cannot be used; the numbers are then those of an empty circuit.
    broken: str | None = None


# --------------------------------------------------------------------------------- verification

ControlName = Literal[
    "held_out",
    "necessity",
    "ablation_kinds",
    "random_subsets",
    "random_circuits",
    "shuffled_labels",
    "random_weights",
    "frozen_norm",
    "seeds",
    "faithfulness",
]
Verdict = Literal["supported", "not supported", "depends"]


class Interval(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bootstrap interval over pairs of prompts."""

    low: float
    high: float
    level: float = 0.95


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number of a control. `unit` is nats, share, nodes, edges or ratio."""

    name: str
    value: float
    unit: Literal["nats", "share", "nodes", "edges", "ratio"] = "nats"
    interval: Interval | None = None


class Control(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One control: its numbers, whether the circuit passed, and the sentence that says why.

    `passed` None: the control could not decide, or only informs.
    """

    name: ControlName
    passed: bool | None
    sentence: str
    measurements: tuple[Measurement, ...] = ()


class VerifySettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How thoroughly to verify. `controls` empty: all of them."""

    controls: tuple[ControlName, ...] = ()
    n_pairs: Annotated[int, msgspec.Meta(ge=8, le=16384)] = 256
    n_bootstrap: Annotated[int, msgspec.Meta(ge=10, le=100_000)] = 1000
    n_random_circuits: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    n_random_subsets: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    #: Fresh prune runs for the controls that need them: nulls and other seeds.
    n_null_runs: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    n_seeds: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    #: Steps of those runs; None: as many as the circuit's own.
    n_null_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    seed: int = 0


class Card(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict on a circuit, with its reasons in sentences and every control behind them.

    `depends_on` says on what, when the verdict is "depends".
    """

    circuit: str
    verdict: Verdict
    reasons: tuple[str, ...]
    controls: tuple[Control, ...]
    settings: VerifySettings
    depends_on: tuple[str, ...] = ()
    version: str = ""
    created_at_s: float = 0.0
    seconds: float = 0.0

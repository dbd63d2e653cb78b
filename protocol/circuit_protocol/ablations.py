"""Ablate: the losses that a model or a circuit is left with, one mask or thousands in a request."""

from typing import Literal

import msgspec

from circuit_protocol.interventions import NodeSet, Values
from circuit_protocol.messages import AblationKind, Edge, ModelRequest, Name, Reply
from circuit_protocol.tasks import Input
from circuit_protocol.tensors import Tensor


class AblateNodes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="nodes"):
    """Ablate these nodes."""

    nodes: NodeSet
    kind: AblationKind | None = None


class AblateSites(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="sites"):
    """Ablate every channel of the node sites a selector names."""

    site: Name
    kind: AblationKind | None = None


class AblateHeads(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="heads"):
    """Ablate heads of one layer: their q, k and v channels."""

    layer: int
    heads: tuple[int, ...]
    kind: AblationKind | None = None


class AblateLayers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="layers"):
    """Ablate what whole layers, or their attention or MLP half, write to the residual stream."""

    layers: tuple[int, ...]
    half: Literal["both", "attn", "mlp"] = "both"
    kind: AblationKind | None = None


class AblateEdges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="edges"):
    """Cut weights: what flows along each edge is the ablated value of its source."""

    edges: tuple[Edge, ...]
    kind: AblationKind | None = None


Ablation = AblateNodes | AblateSites | AblateHeads | AblateLayers | AblateEdges


class Every(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mask for each thing in turn, of `nodes` (None: of `keep`, or else of the whole model)."""

    of: Literal["node", "edge", "head", "layer", "site"]
    nodes: NodeSet | None = None


class Ablate(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="ablate"):
    """Losses under ablations: one mask or thousands, over a task or given prompts.

    Give the masks as `masks` (each a combination of ablations), as `packed` (BOOL [M, n_nodes] in
    the order of the model's node sites; True keeps a node) or as `every`. `keep` is a circuit that
    all masks start from: nodes outside it are ablated throughout. Results stream in parts.
    """

    input: Input
    masks: tuple[tuple[Ablation, ...], ...] = ()
    packed: Tensor | None = None
    every: Every | None = None
    keep: NodeSet | None = None
    kind: AblationKind = "mean"
    #: Means [n_nodes] that replace the model's pretraining means.
    means: Values | None = None
    seed: int = 0
    #: Also the change of both answer logits per mask and row.
    logit_changes: bool = False


class AblatePart(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="ablate.part"):
    """Losses of masks `start`, `start`+1, …, as they are done. Never final."""

    start: int
    losses: Tensor
    accuracies: Tensor | None = None


class AblatedThing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What mask number i of an `every` request ablated."""

    site: str | None = None
    channel: int | None = None
    layer: int | None = None
    head: int | None = None
    edge: Edge | None = None


class AblateResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="ablate.result"):
    """Answers ablate. All losses are means per side.

    `model_loss` is the unablated model's, `base_loss` that of `keep` alone; losses, deltas
    (loss - base_loss) and accuracies are [M]; logit_changes [M, B, 2] (right, wrong answer).
    `execution` is "compiled circuit", "sparse" or "batched passes, since …"; `masks_per_s` counts
    from when what the masks start from was known.
    """

    model_loss: float
    model_accuracy: float | None
    base_loss: float
    base_accuracy: float | None
    losses: Tensor
    deltas: Tensor
    accuracies: Tensor | None = None
    logit_changes: Values | None = None
    things: tuple[AblatedThing, ...] = ()
    masks_per_s: float = 0.0
    execution: str = ""
    cached: bool = False
    compute_s: float = 0.0

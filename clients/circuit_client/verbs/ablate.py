"""`ablate`: losses under one mask, a few, or thousands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Unpack

import numpy as np
import numpy.typing as npt

from circuit_client.answers import AblateAnswer, MaskLosses
from circuit_client.call import Call, Received
from circuit_client.prompts import NodesLike, TokensLike, pack_input, pack_nodes
from circuit_client.values import Parcel, TensorLike
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.errors import BadShape, InvalidRequest
from circuit_protocol.replies import AblatePart, AblateResult, Progress
from circuit_protocol.requests import (
    Ablate,
    AblateEdges,
    AblateHeads,
    AblateLayers,
    AblateNodes,
    AblateSites,
    Ablation,
    AblationKind,
    Edge,
    Every,
    Split,
)
from circuit_protocol.tensors import Tensor

#: What an `every` request takes in turn.
Thing = Literal["node", "edge", "head", "layer", "site"]
Half = Literal["both", "attn", "mlp"]


def ablate(
    model: str | None = None,
    *,
    task: str | None = None,
    n: int = 64,
    split: Split = "train",
    seed: int = 0,
    tokens: TokensLike | None = None,
    text: str | Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    answers: npt.ArrayLike | None = None,
    targets: npt.ArrayLike | None = None,
    nodes: NodesLike | None = None,
    sites: str | Sequence[str] | None = None,
    heads: Mapping[int, Iterable[int]] | None = None,
    layers: Iterable[int] | None = None,
    half: Half = "both",
    edges: Iterable[Edge] | None = None,
    masks: Iterable[Iterable[Ablation]] | None = None,
    packed: npt.ArrayLike | None = None,
    every: Thing | None = None,
    among: NodesLike | None = None,
    keep: NodesLike | None = None,
    kind: AblationKind = "mean",
    means: TensorLike | None = None,
    resample_seed: int = 0,
    logit_changes: bool = False,
    **options: Unpack[ModelOptions],
) -> Call[Progress | MaskLosses, AblateAnswer]:
    """Losses under ablations, over a task's prompts or your own (with `answers` or `targets`).

    Give the masks in one of four ways: `nodes`, `sites`, `heads` ({layer: heads}), `layers` and
    `edges`, which together make one mask; `masks`, a list of such combinations; `packed`, booleans
    [M, n_nodes] in the order of the model's node sites (True keeps a node); or `every`, one mask
    for each thing in turn, `among` these nodes. All masks start from the circuit `keep` if there is
    one: nodes outside it are ablated throughout. `means` [n_nodes] replace the pretraining means.
    """
    fields, progress = sort_options(model, options)
    parcel = Parcel()
    one_mask = _one_mask(nodes, sites, heads, layers, half, edges)
    ways = {"every": every, "packed": packed, "masks": masks, "one mask": one_mask or None}
    given = [way for way, value in ways.items() if value is not None]
    if len(given) != 1 and not (not given and keep is not None):
        raise InvalidRequest(
            "an ablation needs its masks in exactly one way",
            found=" and ".join(given) or "none",
            hint="Give nodes/sites/heads/layers/edges, or masks, or packed, or every",
        )
    listed = (one_mask,) if one_mask else tuple(tuple(m) for m in masks or ())
    if not given:
        listed = ((),)  # a circuit alone: one mask that ablates nothing more
    request = Ablate(
        input=pack_input(
            parcel,
            task=task,
            n=n,
            split=split,
            seed=seed,
            tokens=tokens,
            text=text,
            lengths=lengths,
            answers=answers,
            targets=targets,
        ),
        masks=listed,
        packed=None if packed is None else _packed(packed, parcel),
        every=None
        if every is None
        else Every(of=every, nodes=None if among is None else pack_nodes(among)),
        keep=None if keep is None else pack_nodes(keep),
        kind=kind,
        means=None if means is None else parcel.value(means),
        seed=resample_seed,
        logit_changes=logit_changes,
        **fields,
    )
    return Call(
        request,
        _read,
        _read_event,
        frames=tuple(parcel.frames),
        instance=parcel.instance,
        progress=progress,
    )


def _read(received: Received) -> AblateAnswer:
    return AblateAnswer(received.expect(AblateResult), received)


def _read_event(received: Received) -> Progress | MaskLosses | None:
    match received.reply:
        case Progress() as progress:
            return progress
        case AblatePart() as part:
            return MaskLosses(part, received)
        case _:
            return None


def _one_mask(
    nodes: NodesLike | None,
    sites: str | Sequence[str] | None,
    heads: Mapping[int, Iterable[int]] | None,
    layers: Iterable[int] | None,
    half: Half,
    edges: Iterable[Edge] | None,
) -> tuple[Ablation, ...]:
    mask: list[Ablation] = []
    if nodes is not None:
        mask.append(AblateNodes(nodes=pack_nodes(nodes)))
    selectors = (sites,) if isinstance(sites, str) else sites or ()
    mask.extend(AblateSites(site=selector) for selector in selectors)
    for layer, some in (heads or {}).items():
        mask.append(AblateHeads(layer=int(layer), heads=tuple(int(h) for h in some)))
    if layers is not None:
        mask.append(AblateLayers(layers=tuple(int(i) for i in layers), half=half))
    if edges is not None:
        mask.append(AblateEdges(edges=tuple(edges)))
    return tuple(mask)


def _packed(packed: npt.ArrayLike, parcel: Parcel) -> Tensor:
    array = np.asarray(packed)
    if array.dtype != np.bool_:
        raise BadShape(
            "packed masks are booleans, True where a node is kept", found=f"dtype {array.dtype}"
        )
    return parcel.array(array[None, :] if array.ndim == 1 else array)

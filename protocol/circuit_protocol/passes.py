"""Passes of a model over prompts: forward, generate, and hook, which looks inside."""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.interventions import Intervention, Values
from circuit_protocol.messages import ModelRequest, Name, Prompts, Reply
from circuit_protocol.session import SelectedNode
from circuit_protocol.tasks import Input
from circuit_protocol.tensors import Tensor


class Forward(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="forward"):
    """Run prompts: logits, loss, top predictions.

    `targets`: "next" scores every token by the prompt's own next token, a tensor [B, T] gives
    targets (-1: not counted).
    """

    prompts: Prompts
    targets: Tensor | Literal["next"] | None = None
    logits: Literal["all", "last", "none"] = "all"
    token_loss: bool = False
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    interventions: tuple[Intervention, ...] = ()
    #: "handle" leaves large results in the daemon, "inline" sends them, "auto" decides by size.
    deliver: Literal["auto", "inline", "handle"] = "auto"


class TopK(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The likeliest next tokens: ids (I32) and log-probabilities (F32), both [B, T or 1, k]."""

    ids: Tensor
    logprobs: Tensor


class ForwardResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="forward.result"):
    """Answers forward. Shapes: logits [B, T, V] ("all") or [B, 1, V] ("last"), token_loss [B, T]
    (nats; NaN where there is no target), tokens [B, T], lengths [B]. `execution` is "sparse",
    "dense", or "dense, since …" where the request kept a sparse model from running so.
    """

    tokens: Tensor
    lengths: Tensor
    logits: Values | None = None
    loss: float | None = None
    token_loss: Tensor | None = None
    top_k: TopK | None = None
    execution: str = "dense"
    cached: bool = False
    compute_s: float = 0.0


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to bring back from the sites `site` selects; reduced in the daemon, beside the tensor.

    `reduce` runs over positions (mean, max_abs), channels (norm) or all (top_k: the `top_k`
    largest magnitudes with their row, position and channel).
    """

    site: Name
    positions: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    reduce: Literal["none", "mean", "norm", "max_abs", "top_k"] = "none"
    top_k: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 16


class Recorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was recorded at one site: [B, T, width] unless sliced or reduced; `gradient` alike.

    For top_k, `value` holds the k values and `indices` [k, 3] their row, position and channel.
    """

    site: str
    value: Values
    gradient: Values | None = None
    indices: Tensor | None = None


class Generate(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="generate"):
    """Continue one prompt; each token arrives as a partial reply."""

    prompts: Prompts
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64
    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    seed: int = 0
    stop_tokens: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    records: tuple[Record, ...] = ()


class GenerateStep(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="generate.step"):
    """One generated token, as it is drawn. Never final."""

    token: int
    data: bytes
    logprob: float
    position: int
    recorded: tuple[Recorded, ...] = ()


class GenerateResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="generate.result"):
    """Ends generate."""

    tokens: tuple[int, ...]
    text: str
    stopped_by: Literal["length", "stop", "context"]
    compute_s: float = 0.0


class GradientOf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which scalar to differentiate with respect to the recorded sites.

    "loss" is the mean cross-entropy over targets; "two_token_loss" and "logit_difference" use the
    answers [B, 2]: right minus wrong logit at each row's last position, averaged over rows.
    """

    of: Literal["loss", "two_token_loss", "logit_difference"] = "loss"


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A second plan to compare with the first: same prompts, or its own of the same shape."""

    interventions: tuple[Intervention, ...] = ()
    prompts: Prompts | None = None


class Hook(ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="hook"):
    """Record sites, with gradients or as the difference to a second plan, changes ranked."""

    input: Input
    records: Annotated[tuple[Record, ...], msgspec.Meta(min_length=1, max_length=4096)]
    interventions: tuple[Intervention, ...] = ()
    gradient: GradientOf | None = None
    against: Variant | None = None
    #: With `against`: how many changed channels to rank.
    rank: Annotated[int, msgspec.Meta(ge=0, le=65536)] = 32
    deliver: Literal["auto", "inline", "handle"] = "auto"


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one channel differs between two plans.

    `rms` and `mean` run over rows and positions; `largest` is the difference of largest magnitude,
    at `row` and `position`.
    """

    node: SelectedNode
    rms: float
    mean: float
    largest: float
    row: int
    position: int


class HookResult(Reply, frozen=True, kw_only=True, omit_defaults=True, tag="hook.result"):
    """Answers hook. With `against`, values are the first plan's minus the second's. `execution` as
    in `forward.result`; of two plans, the first's.
    """

    tokens: Tensor
    lengths: Tensor
    recorded: tuple[Recorded, ...]
    loss: float | None = None
    against_loss: float | None = None
    changes: tuple[Change, ...] = ()
    execution: str = "dense"
    cached: bool = False
    compute_s: float = 0.0

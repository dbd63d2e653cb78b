"""What every message is made of: the base of requests and of replies, and the words they share."""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.tensors import Tensor

RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
DTypeName = Literal["float32", "bfloat16", "float16"]
CacheKind = Literal["models", "activations", "results", "artefacts", "tokenizers"]
Split = Literal["train", "held_out"]
AblationKind = Literal["zero", "mean", "resample"]


class Request(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="request"
):
    """What all requests have in common."""

    id: RequestId
    #: Seconds from arrival after which the daemon gives up with `deadline_exceeded`.
    deadline_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    #: A retry with the same key (same client, within the hour) gets the first try's answer.
    idempotency_key: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class Prompts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch of prompts: `texts`, or `tokens` [B, T] with `lengths` [B].

    `tokens` are integers, right-padded; without `lengths` every row is T long.
    """

    texts: tuple[str, ...] | None = None
    tokens: Tensor | None = None
    lengths: tuple[int, ...] | None = None


class ModelRequest(Request, frozen=True, kw_only=True, omit_defaults=True, tag="model_request"):
    """A request that runs on a model.

    `model` is a name in the artefact roots, a directory on the daemon's machine, or an `https://`
    or `hf://` address. `keep_alive_s` is how many seconds it stays resident after this request: 0
    unloads it at once, a negative number keeps it for ever, None is the daemon's default.
    """

    model: Name
    dtype: DTypeName = "float32"
    keep_alive_s: float | None = None
    #: Whether a stored answer to the very same question may be used, and this one stored.
    use_cache: bool = True
    #: Batch work waits for interactive work.
    priority: Literal["interactive", "batch"] = "interactive"
    #: Run as a job: the reply is `job.accepted`, and the work survives this client and the daemon.
    detach: bool = False


class Reply(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="reply"
):
    """What all replies have in common."""

    id: RequestId
    seq: int = 0
    final: bool = True


class Edge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A weight from a source node to a target node (the six counted matrices only)."""

    source: str
    source_channel: int
    target: str
    target_channel: int

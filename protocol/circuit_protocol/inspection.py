"""What lies in a model's files and takes no prompt to see: its embeddings, and how it was trained.

Requests and replies together: each pair is one question.
"""

from typing import Annotated, Literal

import msgspec

from circuit_protocol.messages import ModelRequest, Name, Reply, Request
from circuit_protocol.tensors import Tensor


class EmbeddingColumn(
    ModelRequest, frozen=True, kw_only=True, omit_defaults=True, tag="models.embedding"
):
    """Which tokens write a channel of the residual stream, and how it depends on the position.

    `channel` counts as in `attn.act_in`: from `d_model` on it is a concatenated positional channel,
    which no token writes. `of` "unembedding" asks instead which tokens' logits the channel raises
    and lowers, read directly from the final norm (no positions then).
    """

    channel: Annotated[int, msgspec.Meta(ge=0)]
    of: Literal["embedding", "unembedding"] = "embedding"
    #: How many of the largest and of the smallest weights to name.
    n: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 20
    n_bins: Annotated[int, msgspec.Meta(ge=1, le=512)] = 40


class TokenWeight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token and its weight for a channel."""

    id: int
    data: bytes
    weight: float


class EmbeddingColumnShown(
    Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.embedded"
):
    """Answers models.embedding. `top` are the largest weights, descending; `bottom` the smallest,
    ascending; the histogram counts all `n_tokens` between `edges` (one more than counts).

    `positions` [block_size] is what each position adds to the channel; of a positional channel,
    what the first layer's attention reads there. None where positions write no such channel, and of
    an unembedding. A positional channel has no tokens.
    """

    channel: int
    of: Literal["embedding", "unembedding"]
    n_tokens: int
    n_nonzero: int
    top: tuple[TokenWeight, ...] = ()
    bottom: tuple[TokenWeight, ...] = ()
    counts: tuple[int, ...] = ()
    edges: tuple[float, ...] = ()
    mean: float | None = None
    std: float | None = None
    positions: Tensor | None = None
    compute_s: float = 0.0


class TrainingCurves(Request, frozen=True, kw_only=True, omit_defaults=True, tag="models.training"):
    """What was written down while a model was trained: `train_curves/<name>/progress.json`.

    `metrics` are patterns with `*`; none means all. Of more than `n_points` lines as many are kept,
    evenly, the first and the last among them.
    """

    model: Name
    metrics: tuple[Name, ...] = ()
    n_points: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 2000


class Metric(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column: one value for each line kept, null where the line has none."""

    name: str
    values: tuple[float | None, ...]


class TrainingCurvesShown(
    Reply, frozen=True, kw_only=True, omit_defaults=True, tag="models.trained"
):
    """Answers models.training. `steps` are the lines' own (their number where they have none);
    metrics come in the order in which the file first names them. `n_lines` is how many it has.
    """

    model: str
    path: str
    n_lines: int
    steps: tuple[float, ...]
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()


InspectionRequest = EmbeddingColumn | TrainingCurves
InspectionReply = EmbeddingColumnShown | TrainingCurvesShown

"""`models.*`, `tokenize`, `detokenize`."""

from collections.abc import Callable, Sequence
from typing import Literal, Unpack

import numpy.typing as npt

from circuit_client.call import (
    DEFAULT_MODEL,
    UNSENT_ID,
    Call,
    Received,
    progress_only,
    read_done,
    whole,
)
from circuit_client.model_answers import Embedded
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.errors import BadTokens
from circuit_protocol.inspection import (
    EmbeddingColumn,
    EmbeddingColumnShown,
    TrainingCurves,
    TrainingCurvesShown,
)
from circuit_protocol.replies import (
    ModelConverted,
    ModelDescription,
    ModelList,
    ModelSummary,
    Progress,
    ResidentReport,
    TextPiece,
    Texts,
    TokenInfo,
    Tokens,
)
from circuit_protocol.requests import (
    DescribeModel,
    Detokenize,
    ListModels,
    LoadModel,
    PackModel,
    PinModel,
    ResidentModels,
    Tokenize,
    UnloadModel,
    UnpackModel,
)


def list_models() -> Call[Progress, tuple[ModelSummary, ...]]:
    """All models in the artefact roots, resident or not."""

    def read(received: Received) -> tuple[ModelSummary, ...]:
        return received.expect(ModelList).models

    return Call(ListModels(id=UNSENT_ID), read, progress_only)


def describe(model: str | None = None) -> Call[Progress, ModelDescription]:
    """Configuration, sites, hash, sizes and sparsity of a model; it need not be resident."""
    request = DescribeModel(id=UNSENT_ID, model=DEFAULT_MODEL if model is None else model)
    return Call(request, whole(ModelDescription), progress_only)


def load(
    model: str | None = None,
    *,
    device: str | None = None,
    pin: bool = False,
    sha256: str | None = None,
    **options: Unpack[ModelOptions],
) -> Call[Progress, ResidentReport]:
    """Make a model resident on `device` ("cuda:1", "cpu"; None: where the daemon finds room)."""
    fields, progress = sort_options(model, options)
    request = LoadModel(device=device, pin=pin, sha256=sha256, **fields)
    return Call(request, whole(ResidentReport), progress_only, progress=progress)


def unload(model: str | None = None) -> Call[Progress, bool]:
    """Free a resident model now; False if it was not resident."""
    request = UnloadModel(id=UNSENT_ID, model=DEFAULT_MODEL if model is None else model)
    return Call(request, read_done, progress_only)


def pin(model: str | None = None, *, pinned: bool = True) -> Call[Progress, bool]:
    """Exempt a resident model from eviction and keep_alive, or undo that with `pinned=False`."""
    name = DEFAULT_MODEL if model is None else model
    return Call(PinModel(id=UNSENT_ID, model=name, pinned=pinned), read_done, progress_only)


def ps() -> Call[Progress, ResidentReport]:
    """What is resident, where, how large and until when."""
    return Call(ResidentModels(id=UNSENT_ID), whole(ResidentReport), progress_only)


def pack(
    model: str | None = None,
    *,
    to: str,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Call[Progress, ModelConverted]:
    """Write a model with only its nonzeros, bit for bit, to a name in your artefact tree or a path.

    The model hash stays, so circuits and cached answers carry over.
    """
    name = DEFAULT_MODEL if model is None else model
    request = PackModel(id=UNSENT_ID, model=name, to=to, overwrite=overwrite)
    return Call(request, whole(ModelConverted), progress_only, progress=progress)


def unpack(
    model: str | None = None,
    *,
    to: str,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Call[Progress, ModelConverted]:
    """Write a packed model with all its zeros, as plain safetensors; otherwise as `pack`."""
    name = DEFAULT_MODEL if model is None else model
    request = UnpackModel(id=UNSENT_ID, model=name, to=to, overwrite=overwrite)
    return Call(request, whole(ModelConverted), progress_only, progress=progress)


def embedding(
    channel: int,
    model: str | None = None,
    *,
    of: Literal["embedding", "unembedding"] = "embedding",
    n: int = 20,
    n_bins: int = 40,
    **options: Unpack[ModelOptions],
) -> Call[Progress, Embedded]:
    """Which tokens write a channel of the residual stream (or, of the "unembedding", have their
    logits raised and lowered by it): the `n` largest and smallest weights, a histogram of all, and
    what each position adds.
    """
    fields, progress = sort_options(model, options)
    request = EmbeddingColumn(channel=channel, of=of, n=n, n_bins=n_bins, **fields)

    def read(received: Received) -> Embedded:
        return Embedded(received.expect(EmbeddingColumnShown), received)

    return Call(request, read, progress_only, progress=progress)


def training(
    model: str | None = None, *, metrics: Sequence[str] = (), n_points: int = 2000
) -> Call[Progress, TrainingCurvesShown]:
    """What was written down while a model was trained, as columns; `metrics` are patterns."""
    name = DEFAULT_MODEL if model is None else model
    request = TrainingCurves(id=UNSENT_ID, model=name, metrics=tuple(metrics), n_points=n_points)
    return Call(request, whole(TrainingCurvesShown), progress_only)


def tokenize(
    text: str | Sequence[str],
    model: str | None = None,
    *,
    allow_special: bool = False,
    **options: Unpack[ModelOptions],
) -> Call[Progress, tuple[tuple[TokenInfo, ...], ...]]:
    """Texts to tokens: one row of ids, bytes and byte offsets for each text."""
    fields, progress = sort_options(model, options)
    texts = (text,) if isinstance(text, str) else tuple(text)

    def read(received: Received) -> tuple[tuple[TokenInfo, ...], ...]:
        return received.expect(Tokens).rows

    request = Tokenize(texts=texts, allow_special=allow_special, **fields)
    return Call(request, read, progress_only, progress=progress)


def detokenize(
    tokens: npt.ArrayLike | Sequence[Sequence[int]],
    model: str | None = None,
    **options: Unpack[ModelOptions],
) -> Call[Progress, tuple[TextPiece, ...]]:
    """Token ids (one row, or several of any lengths) to text and bytes."""
    fields, progress = sort_options(model, options)

    def read(received: Received) -> tuple[TextPiece, ...]:
        return received.expect(Texts).rows

    request = Detokenize(tokens=_rows(tokens), **fields)
    return Call(request, read, progress_only, progress=progress)


def _rows(tokens: npt.ArrayLike | Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    import numpy as np

    rows: list = tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)  # pyright: ignore
    if all(isinstance(t, int | np.integer) for t in rows):
        rows = [rows]
    try:
        return tuple(tuple(int(t) for t in row) for row in rows)
    except (TypeError, ValueError) as e:
        raise BadTokens("token ids are rows of integers", found=str(e)) from None

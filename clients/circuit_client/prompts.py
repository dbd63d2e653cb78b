"""Prompts, targets and node sets: from what a person writes to what the protocol carries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from circuit_client.notation import parse_nodes
from circuit_client.values import Parcel
from circuit_protocol.errors import BadShape, BadTokens, InvalidRequest
from circuit_protocol.interventions import NodeSet, SiteChannels
from circuit_protocol.requests import Input, PromptInput, Prompts, Split, TaskInput
from circuit_protocol.tensors import Tensor

#: One prompt (ids, 1-D) or a batch: an array [B, T], or a list of prompts of any lengths.
TokensLike = npt.ArrayLike | Sequence[Sequence[int]]
#: Nodes as {site: channels} (None: all), as SiteChannels, or as text like "2.mlp.post_act[3,5]".
NodesLike = Mapping[str, Iterable[int] | None] | Iterable[SiteChannels | str] | str


def pack_prompts(
    tokens: TokensLike | None,
    text: str | Sequence[str] | None,
    lengths: Sequence[int] | None,
    parcel: Parcel,
) -> Prompts:
    """Exactly one of `tokens` and `text` as Prompts; ragged prompts are padded at the right."""
    if (tokens is None) == (text is None):
        raise InvalidRequest(
            "a prompt is needed, as tokens or as text",
            found="neither" if tokens is None else "both",
        )
    if text is not None:
        return Prompts(texts=(text,) if isinstance(text, str) else tuple(text))
    array, row_lengths = pad(tokens)
    if lengths is not None:
        row_lengths = tuple(int(n) for n in lengths)
    return Prompts(tokens=parcel.array(array), lengths=row_lengths)


def pad(tokens: Any, fill: int = 0) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """`tokens` as an integer array [B, T], and the rows' lengths if they differ."""
    if not isinstance(tokens, np.ndarray):
        tokens = list(tokens)
        rows = [np.asarray(row) for row in tokens]
        if rows and all(row.ndim == 1 for row in rows):
            lengths = tuple(row.size for row in rows)
            if len(set(lengths)) > 1:
                joined = np.concatenate([row for row in rows if row.size])
                padded = np.full((len(rows), max(lengths)), fill, dtype=integers(joined).dtype)
                for i, row in enumerate(rows):
                    padded[i, : row.size] = row
                return padded, lengths
    array = integers(np.asarray(tokens))
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2:
        raise BadShape(
            "tokens are one prompt (1-D) or a batch [B, T]", found=f"an array of {array.ndim}-D"
        )
    return array, None


def integers(array: np.ndarray) -> np.ndarray:
    """`array` as int32, or int64 where a value needs it; BadTokens if they are no integers."""
    if array.size == 0:
        return array.astype(np.int32)
    if array.dtype.kind not in "iu":
        raise BadTokens("token ids are integers", found=f"dtype {array.dtype}")
    limits = np.iinfo(np.int32)
    fits = limits.min <= array.min() and array.max() <= limits.max
    return array.astype(np.int32 if fits else np.int64)


def pack_integers(values: npt.ArrayLike, parcel: Parcel, *, ndim: int) -> Tensor:
    """Answers [B, 2] or targets [B, T]; a single row may be given as 1-D, ragged ones as lists."""
    array, _ = pad(values, fill=-1)
    if array.ndim != ndim:
        raise BadShape(
            "an array of another rank is needed", asked=f"{ndim}-D", found=str(array.ndim)
        )
    return parcel.array(array)


def pack_input(
    parcel: Parcel,
    *,
    task: str | None,
    n: int,
    split: Split,
    seed: int,
    tokens: TokensLike | None,
    text: str | Sequence[str] | None,
    lengths: Sequence[int] | None,
    answers: npt.ArrayLike | None,
    targets: npt.ArrayLike | None,
) -> Input:
    """A task's prompts, or prompts of the caller's own with answers or targets."""
    if task is not None:
        if tokens is not None or text is not None:
            raise InvalidRequest("a task brings its own prompts", found="a task and a prompt")
        return TaskInput(task=task, n=n, split=split, seed=seed)
    return PromptInput(
        prompts=pack_prompts(tokens, text, lengths, parcel),
        answers=None if answers is None else pack_integers(answers, parcel, ndim=2),
        targets=None if targets is None else pack_integers(targets, parcel, ndim=2),
    )


def pack_nodes(nodes: NodesLike) -> NodeSet:
    """Nodes in any of the forms of `NodesLike` as the protocol's node set."""
    if isinstance(nodes, str):
        return parse_nodes(nodes)
    packed: list[SiteChannels] = []
    if isinstance(nodes, Mapping):
        by_site = cast(Mapping[str, Iterable[int] | None], nodes)
        for site, some in by_site.items():
            channels = None if some is None else tuple(int(c) for c in some)
            packed.append(SiteChannels(site=site, channels=channels))
    else:
        for node in nodes:
            packed.extend(parse_nodes(node) if isinstance(node, str) else (node,))
    return tuple(packed)

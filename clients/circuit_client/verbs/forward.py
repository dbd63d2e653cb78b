"""`forward`: run prompts."""

from collections.abc import Sequence
from typing import Literal, Unpack

import numpy.typing as npt

from circuit_client.answers import ForwardAnswer
from circuit_client.call import Call, Received, progress_only
from circuit_client.iv import InterventionLike, pack_all
from circuit_client.prompts import TokensLike, pack_integers, pack_prompts
from circuit_client.values import Parcel
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.replies import ForwardResult, Progress
from circuit_protocol.requests import Forward
from circuit_protocol.tensors import Tensor


def forward(
    model: str | None = None,
    *,
    tokens: TokensLike | None = None,
    text: str | Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    targets: npt.ArrayLike | Literal["next"] | None = None,
    logits: Literal["all", "last", "none"] = "all",
    token_loss: bool | None = None,
    top_k: int = 0,
    interventions: Sequence[InterventionLike] | InterventionLike = (),
    deliver: Literal["auto", "inline", "handle"] = "auto",
    **options: Unpack[ModelOptions],
) -> Call[Progress, ForwardAnswer]:
    """Run prompts: logits, loss, likeliest tokens.

    `tokens` is one prompt or a batch (ragged lists are padded), `text` one string or several.
    `targets="next"` scores each token by the prompt's own next one; an array [B, T] gives targets
    (-1: not counted). Losses per token come along whenever there are targets, unless
    `token_loss=False`.
    """
    fields, progress = sort_options(model, options)
    parcel = Parcel()
    prompts = pack_prompts(tokens, text, lengths, parcel)
    request = Forward(
        prompts=prompts,
        targets=_targets(targets, parcel),
        logits=logits,
        token_loss=targets is not None if token_loss is None else token_loss,
        top_k=top_k,
        interventions=pack_all(interventions, parcel),
        deliver=deliver,
        **fields,
    )

    def read(received: Received) -> ForwardAnswer:
        return ForwardAnswer(received.expect(ForwardResult), received)

    return Call(
        request,
        read,
        progress_only,
        frames=tuple(parcel.frames),
        instance=parcel.instance,
        progress=progress,
    )


def _targets(
    targets: npt.ArrayLike | Literal["next"] | None, parcel: Parcel
) -> Tensor | Literal["next"] | None:
    if targets is None:
        return None
    if isinstance(targets, str):
        if targets != "next":
            raise InvalidRequest('targets are token ids or "next"', found=targets)
        return "next"
    return pack_integers(targets, parcel, ndim=2)

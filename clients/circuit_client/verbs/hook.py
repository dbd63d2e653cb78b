"""`hook`: record what happens at sites, its gradients, or its difference between two plans."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Unpack

import numpy.typing as npt

from circuit_client.answers import HookAnswer
from circuit_client.call import Call, Received, progress_only
from circuit_client.iv import InterventionLike, pack_all
from circuit_client.prompts import TokensLike, pack_input, pack_prompts
from circuit_client.values import Parcel
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.errors import InvalidRequest
from circuit_protocol.replies import HookResult, Progress
from circuit_protocol.requests import GradientOf, Hook, Record, Split, Variant

#: A site selector (exact name, glob, `re:` regex, TransformerLens alias), or a whole Record.
SiteLike = str | Record
Reduction = Literal["none", "mean", "norm", "max_abs", "top_k"]
Scalar = Literal["loss", "two_token_loss", "logit_difference"]


def pack_records(
    sites: SiteLike | Sequence[SiteLike],
    *,
    positions: Iterable[int] | None = None,
    channels: Iterable[int] | None = None,
    reduce: Reduction = "none",
    top_k: int = 16,
) -> tuple[Record, ...]:
    """`sites` as records; the narrowing applies to those given by name only.

    Raises InvalidRequest for a site that is named twice: an answer has one array for each.
    """
    at = None if positions is None else tuple(int(p) for p in positions)
    some = None if channels is None else tuple(int(c) for c in channels)
    listed = (sites,) if isinstance(sites, str | Record) else tuple(sites)
    records = tuple(
        s
        if isinstance(s, Record)
        else Record(site=s, positions=at, channels=some, reduce=reduce, top_k=top_k)
        for s in listed
    )
    times = Counter(record.site for record in records)
    if twice := [site for site, n in times.items() if n > 1]:
        raise InvalidRequest(
            "a site is to be recorded twice",
            asked=twice[0],
            hint="Name all its channels in one record, or ask twice",
        )
    return records


def hook(
    model: str | None = None,
    *,
    sites: SiteLike | Sequence[SiteLike],
    tokens: TokensLike | None = None,
    text: str | Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    answers: npt.ArrayLike | None = None,
    targets: npt.ArrayLike | None = None,
    task: str | None = None,
    n: int = 64,
    split: Split = "train",
    seed: int = 0,
    positions: Iterable[int] | None = None,
    channels: Iterable[int] | None = None,
    reduce: Reduction = "none",
    top_k: int = 16,
    interventions: Sequence[InterventionLike] | InterventionLike = (),
    gradient: Scalar | None = None,
    against: Sequence[InterventionLike] | InterventionLike | None = None,
    against_tokens: TokensLike | None = None,
    against_text: str | Sequence[str] | None = None,
    rank: int = 32,
    deliver: Literal["auto", "inline", "handle"] = "auto",
    **options: Unpack[ModelOptions],
) -> Call[Progress, HookAnswer]:
    """Record `sites`: `answer["2.mlp.post_act"]` is an array [B, T, width].

    The prompts are a task's (`task`, `n` pairs) or your own, with `answers` [B, 2] or `targets`
    [B, T] where a loss is wanted. `positions`, `channels` and `reduce` are done in the daemon.
    `gradient` also brings the gradient of a scalar with respect to every recorded site. `against`
    compares with a second plan: other interventions (an empty list: none) and, with
    `against_tokens` or `against_text`, other prompts of the same shape.
    """
    fields, progress = sort_options(model, options)
    parcel = Parcel()
    records = pack_records(
        sites, positions=positions, channels=channels, reduce=reduce, top_k=top_k
    )
    if not records:
        raise InvalidRequest("hook needs at least one site", hint='For example sites=["*.mlp.*"]')
    request = Hook(
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
        records=records,
        interventions=pack_all(interventions, parcel),
        gradient=None if gradient is None else GradientOf(of=gradient),
        against=_variant(against, against_tokens, against_text, parcel),
        rank=rank,
        deliver=deliver,
        **fields,
    )

    def read(received: Received) -> HookAnswer:
        return HookAnswer(received.expect(HookResult), received)

    return Call(
        request,
        read,
        progress_only,
        frames=tuple(parcel.frames),
        instance=parcel.instance,
        progress=progress,
    )


def _variant(
    against: Sequence[InterventionLike] | InterventionLike | None,
    tokens: TokensLike | None,
    text: str | Sequence[str] | None,
    parcel: Parcel,
) -> Variant | None:
    own_prompts = tokens is not None or text is not None
    if against is None and not own_prompts:
        return None
    return Variant(
        interventions=pack_all(() if against is None else against, parcel),
        prompts=pack_prompts(tokens, text, None, parcel) if own_prompts else None,
    )

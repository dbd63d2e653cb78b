"""`generate`: continue a prompt, a token at a time."""

from collections.abc import Sequence
from typing import Unpack

from circuit_client.answers import Generated, Step
from circuit_client.call import Call, Received
from circuit_client.iv import InterventionLike, pack_all
from circuit_client.prompts import TokensLike, pack_prompts
from circuit_client.values import Parcel
from circuit_client.verbs.hook import SiteLike, pack_records
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.replies import GenerateResult, GenerateStep
from circuit_protocol.requests import Generate


def generate(
    model: str | None = None,
    *,
    tokens: TokensLike | None = None,
    text: str | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_k: int = 0,
    seed: int = 0,
    stop_tokens: Sequence[int] = (),
    stop_texts: Sequence[str] = (),
    interventions: Sequence[InterventionLike] | InterventionLike = (),
    sites: SiteLike | Sequence[SiteLike] = (),
    **options: Unpack[ModelOptions],
) -> Call[Step, Generated]:
    """Continue one prompt, a token at a time; temperature 0 takes the likeliest token."""
    fields, progress = sort_options(model, options)
    parcel = Parcel()
    request = Generate(
        prompts=pack_prompts(tokens, text, None, parcel),
        max_new_tokens=max_new_tokens,
        temperature=float(temperature),
        top_k=top_k,
        seed=seed,
        stop_tokens=tuple(int(t) for t in stop_tokens),
        stop_texts=tuple(stop_texts),
        interventions=pack_all(interventions, parcel),
        records=pack_records(sites),
        **fields,
    )

    def read_event(received: Received) -> Step | None:
        if isinstance(received.reply, GenerateStep):
            return Step(received.reply, received)
        return None

    def read(received: Received) -> Generated:
        return Generated(received.expect(GenerateResult), received)

    return Call(
        request,
        read,
        read_event,
        frames=tuple(parcel.frames),
        instance=parcel.instance,
        progress=progress,
    )

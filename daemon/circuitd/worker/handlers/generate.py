"""`generate`: continue one prompt, one token per step, each sent as it is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from circuit_protocol.errors import BadTokens
from circuit_protocol.replies import GenerateResult, GenerateStep, Recorded
from circuit_protocol.requests import Generate
from circuitd.engine.generate import Sampling, Step, generate
from circuitd.engine.plan import Plan
from circuitd.engine.window import Window
from circuitd.worker.context import Context
from circuitd.worker.output import Output, Parcel
from circuitd.worker.prompts import Batch, read_prompts
from circuitd.worker.recordings import Wanted, entries, wanted
from circuitd.worker.registry import Steps
from circuitd.worker.translate import translate


def run(request: Generate, context: Context) -> Steps:
    """Generate until a stop token or text, `max_new_tokens`, or the end of the context.

    What stopped it is part of `tokens` and `text`. The log-probability of a token is the model's
    own, before temperature and top-k.
    """
    model = context.model
    batch = read_prompts(context, request.prompts, model.config)
    if batch.n_rows != 1:
        raise BadTokens(
            "one prompt is continued at a time",
            asked=f"{batch.n_rows} rows",
            hint="Send one request for each; they take turns",
        )
    prompt = Batch(batch.tokens[:, : int(batch.lengths[0])], batch.lengths)
    stop_texts = _stop_texts(request, context)
    fits = model.config.block_size - prompt.n_positions + 1  # the last token is not fed back
    records = wanted(model.config, request.records)
    steps = generate(
        model.weights,
        prompt.tokens,
        min(request.max_new_tokens, fits),
        plan=Plan(
            record=tuple(one.record for one in records),
            interventions=translate(context, request.interventions, prompt),
            cancelled=context.stop,
        ),
        sampling=Sampling(request.temperature, request.top_k or None, request.seed),
        stop_tokens=frozenset(request.stop_tokens),
    )
    tokens: list[int] = []
    text = b""
    start = 0
    stopped_by = "length" if request.max_new_tokens <= fits else "context"
    for step in steps:
        token = int(step.tokens[0])
        data = model.token_bytes(token)
        yield _step(request, context, step, token, data, records, start)
        start = step.position
        tokens.append(token)
        text += data
        # A stop text may begin in an earlier token, so the whole text is searched.
        if token in request.stop_tokens or any(stop in text for stop in stop_texts):
            stopped_by = "stop"
            break
    yield context.output(
        GenerateResult(
            id=request.id,
            tokens=tuple(tokens),
            text=text.decode("utf-8", errors="replace"),
            stopped_by=stopped_by,
            compute_s=context.elapsed_s,
        )
    )


def _stop_texts(request: Generate, context: Context) -> list[bytes]:
    if "" in request.stop_texts:
        raise BadTokens("a stop text is empty", hint="Every text contains it: leave it out")
    if request.stop_texts:
        _ = context.model.tokenizer  # without one there is no text to look into: say so now
    return [text.encode() for text in request.stop_texts]


def _step(
    request: Generate,
    context: Context,
    step: Step,
    token: int,
    data: bytes,
    records: Sequence[Wanted],
    start: int,
) -> Output:
    with context.parcel() as parcel:
        window = Window(
            1, start, step.position, context.model.config.block_size,
            step.logits.device, step.logits.dtype, is_cached=True,
        )  # fmt: skip
        return parcel.seal(
            GenerateStep(
                id=request.id,
                final=False,
                token=token,
                data=data,
                logprob=float(step.logits[0].float().log_softmax(-1)[token]),
                position=step.position,
                recorded=tuple(_recorded(parcel, one, step, window) for one in records),
            )
        )


def _recorded(parcel: Parcel, one: Wanted, step: Step, window: Window) -> Recorded:
    """What one record holds of the positions that are new in this step."""
    values = step.records[one.record.name]
    description = f"{one.site.name} at positions {window.start} to {window.stop - 1}"
    if one.asked.reduce != "top_k":
        return Recorded(site=one.site.name, value=parcel.deliver(values, "auto", description))
    ends = torch.tensor([window.stop])
    found = entries(one.record, values, step.indices[one.record.name], ends, window)
    largest = found.largest(one.asked.top_k)
    return Recorded(
        site=one.site.name,
        value=parcel.put(largest.values),
        indices=parcel.put(largest.where.int()),
    )

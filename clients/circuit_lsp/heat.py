"""Heat: one number for every token of a document, and how strong that is.

Levels of losses and probabilities mean the same in every document (level 9 is the loss of a model
that knows nothing, and certainty); those of activations and differences fit what is shown.
"""

import asyncio
import math
from typing import Final

import numpy as np

from circuit_client import iv
from circuit_client.aio import AsyncConnection
from circuit_client.iv import InterventionLike
from circuit_client.notation import format_intervention
from circuit_client.render.heat import Scale, scale_for
from circuit_lsp.facts import CircuitFacts, Facts, Look
from circuit_lsp.messages.documents import Heat, HeatChoice, HeatScale, HeatToken
from circuit_lsp.reading import Reading, read
from circuit_lsp.texts import Text
from circuit_protocol.errors import InvalidRequest, TooLarge

_UNITS: Final = {"loss": "nats", "probability": "", "node": "", "difference": "nats"}
#: Documents larger than this are not read at all.
MAX_CHARACTERS: Final = 4 << 20


def kept(circuit: CircuitFacts) -> InterventionLike:
    """The intervention that leaves only the nodes of a circuit.

    One found under resampling is shown with its other nodes at their means: one text has no other
    rows to take values from.
    """
    fill = "zero" if circuit.shown.circuit.ablation == "zero" else "mean"
    return iv.keep(circuit.shown.circuit.nodes, fill=fill)


def check_readable(text: Text) -> None:
    """Raises what a document that is no text, or is far too large, is refused with."""
    if len(text.source) > MAX_CHARACTERS:
        raise TooLarge(
            "this document is too large to be read",
            found=f"{len(text.source):,} characters",
            hint=f"At most {MAX_CHARACTERS:,} are",
        )
    if "\0" in text.source:
        raise InvalidRequest("this document is no text", found="a NUL character")


async def heat_of(
    c: AsyncConnection, facts: Facts, text: Text, focus: int, choice: HeatChoice, look: Look
) -> Heat:
    """Read a document and colour it. Raises CircuitError where that cannot be."""
    check_readable(text)
    model = await facts.model(look.model)
    reading = await read(c, model, text, focus)
    values, losses = await _values(c, facts, reading, choice, look)
    scale = _scale(choice, values, model.vocab_size)
    first, stop = reading.scored
    spots = [s for s in reading.spots if s.last >= first and s.first < stop]
    tokens = [
        HeatToken(
            range=text.range_at(s.start, s.end),
            value=(value := _of_spot(values[s.first : s.last + 1], choice)),
            level=0 if value is None else scale.level(value),
            n_tokens=s.n_tokens,
        )
        for s in spots
    ]
    covered = text.range_at(spots[0].start, spots[-1].end) if spots else None
    is_whole = reading.n_left_out == 0
    known = losses[np.isfinite(losses)]
    return Heat(
        uri=text.uri,
        version=text.version,
        state="fresh",
        choice=choice,
        model=model.name,
        tokens=tuple(tokens),
        scale=HeatScale(kind=scale.kind, limit=scale.limit, unit=scale.unit),
        covered=covered,
        is_whole=is_whole,
        n_tokens_left_out=reading.n_left_out,
        interventions=tuple(map(format_intervention, look.interventions)),
        note=None
        if is_whole
        else f"The model sees {model.block_size} tokens at a time; this is what surrounds the "
        f"cursor, and about {reading.n_left_out:,} tokens are left out.",
        mean_loss=float(known.mean()) if known.size else None,
    )


async def _values(
    c: AsyncConnection, facts: Facts, reading: Reading, choice: HeatChoice, look: Look
) -> tuple[np.ndarray, np.ndarray]:
    """The number of each token, and its loss, [T] each; NaN where there is none."""
    nothing = np.full(len(reading.tokens), np.nan)
    if not reading.tokens:
        return nothing, nothing
    match choice.of:
        case "loss":
            losses = await _losses(c, reading, look.interventions)
            return losses, losses
        case "probability":
            losses = await _losses(c, reading, look.interventions)
            return np.exp(-losses), losses
        case "node":
            return await _activations(c, facts, reading, choice, look), nothing
        case "difference":
            return await _difference(c, facts, reading, choice, look), nothing


async def _losses(
    c: AsyncConnection,
    reading: Reading,
    interventions: tuple[InterventionLike, ...],
    model: str | None = None,
) -> np.ndarray:
    answer = await c.forward(
        model or reading.model.name,
        tokens=reading.rows,
        targets="next",
        logits="none",
        interventions=interventions,
    )
    return reading.gather(answer.token_loss, 1)


async def _activations(
    c: AsyncConnection, facts: Facts, reading: Reading, choice: HeatChoice, look: Look
) -> np.ndarray:
    node = choice.node or look.node
    if node is None:
        raise InvalidRequest("the heat of a node needs the node", hint="Select one")
    interventions: tuple[InterventionLike, ...] = look.interventions
    if choice.circuit is not None:
        interventions = (kept(await facts.circuit(choice.circuit, look.model)), *interventions)
    answer = await c.hook(
        reading.model.name,
        sites=node.site,
        channels=[node.channel],
        tokens=reading.rows,
        interventions=interventions,
    )
    return reading.gather(answer[node.site][..., 0], 0)


async def _difference(
    c: AsyncConnection, facts: Facts, reading: Reading, choice: HeatChoice, look: Look
) -> np.ndarray:
    if choice.other_model is not None:
        other = await facts.model(choice.other_model)
        if other.tokenizer != reading.model.tokenizer:
            raise InvalidRequest(
                "the two models read text as different tokens, so that they cannot be compared",
                asked=f"{other.tokenizer} of {other.name}",
                found=f"{reading.model.tokenizer} of {reading.model.name}",
            )
        changed = _losses(c, reading, (), other.name)
    else:
        circuit = choice.circuit or look.circuit
        if circuit is None:
            raise InvalidRequest(
                "a difference needs a circuit or another model", hint="Select a circuit"
            )
        facts_of = await facts.circuit(circuit, look.model)
        changed = _losses(c, reading, (kept(facts_of), *look.interventions))
    ours, theirs = await asyncio.gather(_losses(c, reading, ()), changed)
    return theirs - ours


def _of_spot(values: np.ndarray, choice: HeatChoice) -> float | None:
    """One number for tokens that share a place."""
    if values.size == 0 or not np.isfinite(values).all():
        return None
    match choice.of:
        case "loss" | "difference":
            return float(values.sum())
        case "probability":
            return float(values.prod())
        case "node":
            return float(values[np.abs(values).argmax()])


def _scale(choice: HeatChoice, values: np.ndarray, vocab_size: int) -> Scale:
    unit = _UNITS[choice.of]
    match choice.of:
        case "loss":
            return Scale("sequential", math.log(vocab_size), unit)
        case "probability":
            return Scale("sequential", 1.0, unit)
        case "node" | "difference":
            return scale_for(values.tolist(), "diverging", unit)

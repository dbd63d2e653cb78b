"""Answers about text: heat, one token, what carries it, what it does without some nodes."""

import dataclasses

from circuit_lsp import effects
from circuit_lsp.messages.documents import (
    AblateParams,
    AblationEffect,
    DocumentParams,
    ExplainParams,
    Explanation,
    FocusParams,
    Heat,
    TokenDetail,
    TokenParams,
    WatchParams,
)
from circuit_lsp.predictions import token_detail
from circuit_lsp.workbench import Workbench


async def watch(bench: Workbench, params: WatchParams) -> Heat:
    """Turn heat on or off; for all documents, the answer is an empty one."""
    chosen = bench.watch(params.uri, on=params.on, choice=params.choice)
    if params.uri is not None:
        return bench.heat_of(chosen[0])
    state = "waiting" if params.on else "off"
    return Heat(uri="", version=None, state=state, choice=params.choice or bench.choice)


async def heat(bench: Workbench, params: DocumentParams) -> Heat:
    """The heat as far as it is known."""
    return bench.heat_of(bench.document(params.uri))


async def focus(bench: Workbench, params: FocusParams) -> None:
    """The cursor moved."""
    bench.focused(params.uri, params.position)


async def token(bench: Workbench, params: TokenParams) -> TokenDetail:
    """What is known about the token at a place."""
    document = bench.document(params.uri)
    offset = document.text.offset_at(params.position)
    reading = await bench.reading_at(document, offset)
    return await token_detail(
        bench.link.connection,
        bench.facts,
        reading,
        reading.spot_at(offset),
        bench.look(),
        n_predictions=params.n_predictions,
        n_nodes=params.n_nodes,
    )


async def explain(bench: Workbench, params: ExplainParams) -> Explanation:
    """Which nodes carry a prediction."""
    document = bench.document(params.uri)
    offset = document.text.offset_at(params.position)
    reading = await bench.reading_at(document, offset)
    look = bench.look()
    if params.circuit is not None:
        look = dataclasses.replace(look, circuit=params.circuit)
    return await effects.explain(
        bench.link.connection,
        bench.facts,
        reading,
        reading.spot_at(offset),
        look,
        versus=params.versus,
        versus_id=params.versus_id,
        n_nodes=params.n_nodes,
    )


async def ablate(bench: Workbench, params: AblateParams) -> AblationEffect:
    """A prediction with and without some nodes."""
    document = bench.document(params.uri)
    offset = document.text.offset_at(params.position)
    reading = await bench.reading_at(document, offset)
    spot = reading.spot_at(offset)
    c = bench.link.connection
    return await effects.ablate(c, bench.facts, reading, spot, bench.look(), params)


ANSWERS = {
    "circuit/document/watch": watch,
    "circuit/document/heat": heat,
    "circuit/document/token": token,
    "circuit/document/explain": explain,
    "circuit/document/ablate": ablate,
}

"""Hover: what the model makes of the token under the cursor."""

from collections.abc import Iterator

from lsprotocol import types

from circuit_lsp.features.words import cell, code, command_link, percent
from circuit_lsp.messages.documents import AblateParams, ExplainParams, TokenDetail
from circuit_lsp.messages.shared import Position
from circuit_lsp.predictions import token_detail
from circuit_lsp.protocol import quiet
from circuit_lsp.server import CircuitServer
from circuit_lsp.texts import lsp_range


def register(server: CircuitServer) -> None:
    """Answer hovers over documents that are watched."""
    bench = server.bench

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    @quiet
    async def hover(params: types.HoverParams) -> types.Hover | None:
        document = bench.documents.get(params.text_document.uri)
        if document is None or not document.watch.is_on or not bench.link.is_up:
            return None
        offset = document.text.offset_at(params.position)
        reading = await bench.reading_at(document, offset)
        detail = await token_detail(
            bench.link.connection,
            bench.facts,
            reading,
            reading.spot_at(offset),
            bench.look(),
            n_predictions=5,
            n_nodes=5,
        )
        place = Position(line=params.position.line, character=params.position.character)
        markdown = server.prefers_markdown
        lines = (
            as_markdown(detail, place, links=bench.settings.command_links)
            if markdown
            else as_text(detail)
        )
        kind = types.MarkupKind.Markdown if markdown else types.MarkupKind.PlainText
        return types.Hover(
            contents=types.MarkupContent(kind=kind, value="\n".join(lines)),
            range=lsp_range(detail.range),
        )


def as_markdown(detail: TokenDetail, place: Position, *, links: bool) -> Iterator[str]:
    """The token, what was likelier, and the circuit's nodes at work there."""
    for token in detail.tokens:
        head = f"**{code(token.text)}** · token {token.id}"
        if token.probability is None or token.loss is None:
            yield f"{head} · the first one, which nothing predicts"
            continue
        yield f"{head} · {percent(token.probability)} · rank {token.rank} · {token.loss:.2f} nats"
        yield ""
        yield "| expected here | |"
        yield "|:--|--:|"
        for prediction in token.predictions:
            mark = " ◂" if prediction.id == token.id else ""
            yield f"| {cell(prediction.text)}{mark} | {percent(prediction.probability)} |"
        yield ""
    if detail.nodes:
        yield f"| node of circuit {detail.circuit} | here | without it |"
        yield "|:--|--:|--:|"
        for effect in detail.nodes:
            delta = "" if effect.delta is None else f"{effect.delta:+.3f} nats"
            name = f"{effect.node.site}[{effect.node.channel}]"
            yield f"| {cell(name)} | {effect.activation:+.2f} | {delta} |"
        yield ""
    yield f"*{detail.model}*"
    if links:
        explain = ExplainParams(uri=detail.uri, position=place)
        some = [command_link("Explain this prediction", "circuit.explain", explain)]
        if detail.nodes:
            node = detail.nodes[0].node
            ablate = AblateParams(uri=detail.uri, position=place, nodes=(node,))
            title = f"Ablate {node.site}[{node.channel}] here"
            some.append(command_link(title, "circuit.ablate", ablate))
        yield ""
        yield " · ".join(some)


def as_text(detail: TokenDetail) -> Iterator[str]:
    """The same for an editor that shows plain text."""
    for token in detail.tokens:
        if token.probability is None or token.loss is None:
            yield f"{token.text}  token {token.id}, the first one, which nothing predicts"
            continue
        yield (
            f"{token.text}  token {token.id}, {percent(token.probability)}, rank {token.rank}, "
            f"{token.loss:.2f} nats"
        )
        for prediction in token.predictions:
            yield f"  {prediction.text}  {percent(prediction.probability)}"
    for effect in detail.nodes:
        delta = "" if effect.delta is None else f"  {effect.delta:+.3f} nats without it"
        yield f"{effect.node.site}[{effect.node.channel}]  {effect.activation:+.2f}{delta}"
    yield detail.model

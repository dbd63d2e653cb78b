"""Heat in LSP's own words: inlay hints, semantic tokens, document highlights.

All of them are asked for by the editor, and wait for the heat of the document as it is now; when
there is fresh heat without an edit (another model, a node ablated), editors are told to ask again.
"""

from collections.abc import Iterator
from typing import Final

from lsprotocol import types

from circuit_lsp.features.words import heat_name, heat_number
from circuit_lsp.messages.documents import Heat, HeatToken
from circuit_lsp.messages.shared import Position
from circuit_lsp.protocol import quiet
from circuit_lsp.server import CircuitServer
from circuit_lsp.texts import Text, lsp_position, lsp_range

LEVELS: Final = 9
#: Token types by level: what is warm (or above zero) first, then what is below zero.
LEGEND: Final = types.SemanticTokensLegend(
    token_types=[f"circuitHeat{i}" for i in range(1, LEVELS + 1)]
    + [f"circuitCool{i}" for i in range(1, LEVELS + 1)],
    token_modifiers=[],
)


def register(server: CircuitServer) -> None:
    """Answer for documents that are watched."""
    bench = server.bench

    @server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    @quiet
    async def inlay_hints(params: types.InlayHintParams) -> list[types.InlayHint] | None:
        if not bench.hints_on:
            return None
        heat = await bench.fresh_heat(params.text_document.uri)
        if heat is None:
            return None
        return list(hints_of(heat, params.range.start.line, params.range.end.line))

    @server.feature(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)
    @quiet
    async def semantic_tokens(params: types.SemanticTokensParams) -> types.SemanticTokens | None:
        if not bench.settings.semantic_tokens:
            return None
        uri = params.text_document.uri
        heat = await bench.fresh_heat(uri)
        if heat is None:
            return types.SemanticTokens(data=[])
        return types.SemanticTokens(data=encode(heat, bench.document(uri).text))

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    @quiet
    async def highlights(
        params: types.DocumentHighlightParams,
    ) -> list[types.DocumentHighlight] | None:
        if not bench.settings.document_highlights:
            return None
        heat = await bench.fresh_heat(params.text_document.uri)
        if heat is None:
            return None
        return [
            types.DocumentHighlight(range=lsp_range(token.range), kind=_strength(token.level))
            for token in heat.tokens
            if token.level
        ]


def hints_of(heat: Heat, first_line: int, last_line: int) -> Iterator[types.InlayHint]:
    """A number behind each token that is not cold, within some lines."""
    of = heat.choice.of
    for token in heat.tokens:
        # A token that holds a line end would have its number on the next line.
        place = token.range.end if _on_one_line(token) else token.range.start
        if token.level == 0 or token.value is None or not first_line <= place.line <= last_line:
            continue
        yield types.InlayHint(
            position=lsp_position(place),
            label=heat_number(token.value, of),
            padding_left=True,
            tooltip=f"{heat_name(of)} of this token in {heat.model}",
        )


def encode(heat: Heat, text: Text) -> list[int]:
    """Semantic tokens: five numbers each, relative to the one before; none spans lines."""
    data: list[int] = []
    line, character = 0, 0
    for token in heat.tokens:
        if token.level == 0:
            continue
        kind = token.level - 1 if token.level > 0 else LEVELS - token.level - 1
        for start, length in _pieces(token, text):
            jump = start.line - line
            data += [jump, start.character - (0 if jump else character), length, kind, 0]
            line, character = start.line, start.character
    return data


def _pieces(token: HeatToken, text: Text) -> Iterator[tuple[Position, int]]:
    """The parts of a token line by line, without the line ends, in the agreed units."""
    start, end = token.range.start, token.range.end
    for line in range(start.line, end.line + 1):
        first = start.character if line == start.line else 0
        if line == end.line:
            last = end.character
        else:
            begin, after = text.line_range(line)
            body = text.source[begin:after].rstrip("\r\n")
            last = text.position_at(begin + len(body)).character
        if last > first:
            yield Position(line=line, character=first), last - first


def _on_one_line(token: HeatToken) -> bool:
    return token.range.start.line == token.range.end.line


def _strength(level: int) -> types.DocumentHighlightKind:
    kinds = types.DocumentHighlightKind
    return (kinds.Text, kinds.Read, kinds.Write)[min(2, (abs(level) - 1) // 3)]

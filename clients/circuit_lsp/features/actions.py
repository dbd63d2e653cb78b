"""Code actions on a watched document: what can be asked about the prediction under the cursor.

Only documents that the user turned heat on for have any, so that nobody else's menu grows.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from lsprotocol import types

from circuit_lsp.features.diagnostics import fixes
from circuit_lsp.messages.commands import TextParams
from circuit_lsp.messages.daemon import PruneParams
from circuit_lsp.messages.documents import AblateParams, ExplainParams, TokenDetail
from circuit_lsp.messages.shared import Message, Node, Position, Range
from circuit_lsp.predictions import token_detail
from circuit_lsp.protocol import quiet
from circuit_lsp.server import CircuitServer
from circuit_lsp.workbench import Document
from circuit_protocol.errors import CircuitError

#: The kind of these actions: no refactoring, and nothing that a save would run.
KIND: Final = "circuit"
#: How many likelier tokens are offered as "why not".
_N_RIVALS = 2


def register(server: CircuitServer) -> None:
    """Answer for watched documents, and with quick fixes for the project's own files."""
    bench = server.bench

    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix, KIND]),
    )
    @quiet
    async def actions(
        params: types.CodeActionParams,
    ) -> list[types.Command | types.CodeAction] | None:
        found: list[types.Command | types.CodeAction] = []
        uri = params.text_document.uri
        only = params.context.only
        if _is_wanted(types.CodeActionKind.QuickFix, only):
            found += fixes(uri, list(params.context.diagnostics))
        document = bench.documents.get(uri)
        if document is None or not document.watch.is_on or not _is_wanted(KIND, only):
            return found
        try:
            commands = await actions_at(server, document, params.range)
        except CircuitError:
            return found  # no daemon, or no token here: the quick fixes are there all the same
        return [*found, *(types.CodeAction(title=c.title, kind=KIND, command=c) for c in commands)]


def _is_wanted(kind: str, only: Sequence[str] | None) -> bool:
    """Whether an editor that asks for some kinds only asks for this one, too."""
    return only is None or any(kind == one or kind.startswith(f"{one}.") for one in only)


def command(title: str, name: str, argument: Message) -> types.Command:
    """A command with its one argument, as LSP carries it."""
    return types.Command(title=title, command=name, arguments=[msgspec.to_builtins(argument)])


async def actions_at(
    server: CircuitServer, document: Document, selection: types.Range
) -> list[types.Command]:
    """What can be done with the token at the beginning of the selection."""
    bench = server.bench
    offset = document.text.offset_at(selection.start)
    reading = await bench.reading_at(document, offset)
    look = bench.look()
    detail = await token_detail(
        bench.link.connection,
        bench.facts,
        reading,
        reading.spot_at(offset),
        look,
        n_predictions=_N_RIVALS + 1,
        n_nodes=1,
    )
    node = look.node and Node(site=look.node.site, channel=look.node.channel)
    circuits = await bench.facts.circuits(reading.model.name)
    found = list(_on_token(detail, node, has_circuit=look.circuit is not None or bool(circuits)))
    if selection.start != selection.end:
        found.append(_side(server, document.text.uri, selection))
    session = bench.link.session
    if session is not None and session.task is not None:
        task = session.task
        found.append(command(f"Find a circuit of {task}", "circuit.prune", PruneParams(task=task)))
    return found


def _on_token(
    detail: TokenDetail, node: Node | None, *, has_circuit: bool
) -> Iterator[types.Command]:
    place, uri = detail.range.start, detail.uri
    token = detail.tokens[0]
    if token.probability is None:
        return
    if has_circuit:
        yield command(
            f"Explain {token.text} (which nodes of a circuit carry it)",
            "circuit.explain",
            ExplainParams(uri=uri, position=place),
        )
        rivals = [p for p in token.predictions if p.id != token.id][:_N_RIVALS]
        for rival in rivals:
            yield command(
                f"Why {token.text} and not {rival.text}",
                "circuit.explain",
                ExplainParams(uri=uri, position=place, versus_id=rival.id),
            )
    chosen = [node] if node is not None else []
    chosen += [effect.node for effect in detail.nodes if effect.node not in chosen]
    for one in chosen:
        yield command(
            f"Ablate {one.site}[{one.channel}] here",
            "circuit.ablate",
            AblateParams(uri=uri, position=place, nodes=(one,)),
        )


def _side(server: CircuitServer, uri: str, selection: types.Range) -> types.Command:
    place = Range(
        start=Position(line=selection.start.line, character=selection.start.character),
        end=Position(line=selection.end.line, character=selection.end.character),
    )
    title = (
        "Make a task pair of the text up to here and the one taken before"
        if server.pairs.is_half
        else "Take the text up to here as one side of a task pair"
    )
    return command(title, "circuit.takeSide", TextParams(uri=uri, range=place))

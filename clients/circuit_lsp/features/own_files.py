"""Symbols and completion in the project's own files."""

import re
from typing import Final

from lsprotocol import types

from circuit_lsp.own_files.names import is_data_of_ours, is_script_of_ours
from circuit_lsp.own_files.task_files import read_task_file
from circuit_lsp.protocol import quiet
from circuit_lsp.server import CircuitServer
from circuit_lsp.texts import Text
from circuit_lsp.workbench import Workbench

#: What is written before the cursor, within a string that is not closed yet.
_IN_PYTHON: Final = re.compile(
    r"""(?:\b(?P<key>model|other_model|tasks?|circuit|sites?|nodes|keep|among|drop|add)\s*=\s*[\[(]?
        |\biv\.(?P<op>\w+)\(\s*|[\[,(]\s*)["'](?P<text>[^"']*)$""",
    re.VERBOSE,
)
_IN_JSON: Final = re.compile(
    r'"(?P<key>model|task|circuit|site|source|target)"\s*:\s*"(?P<text>[^"]*)$'
)
_PARTS_MAX: Final = 512


def register(server: CircuitServer) -> None:
    """Answer for task files, scripts that use the client, and JSON of the protocol."""
    bench = server.bench

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    @quiet
    async def symbols(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol] | None:
        document = bench.documents.get(params.text_document.uri)
        return None if document is None else task_symbols(document.text)

    @server.feature(
        types.TEXT_DOCUMENT_COMPLETION,
        types.CompletionOptions(trigger_characters=['"', "'", ".", ":"]),
    )
    @quiet
    async def completion(params: types.CompletionParams) -> types.CompletionList | None:
        document = bench.documents.get(params.text_document.uri)
        if document is None or not bench.link.is_up:
            return None
        return await complete(bench, document.text, document.text.offset_at(params.position))


def task_symbols(text: Text) -> list[types.DocumentSymbol] | None:
    """The pairs of a task file."""
    task = read_task_file(text)
    if task is None:
        return None
    return [
        types.DocumentSymbol(
            name=pair.name,
            kind=types.SymbolKind.Array,
            range=(place := text.lsp_range(pair.value.start, pair.value.end)),
            selection_range=place,
        )
        for pair in task.pairs
    ]


async def complete(bench: Workbench, text: Text, offset: int) -> types.CompletionList | None:
    """Names that fit where the cursor is; None where no name of ours belongs."""
    start, _ = text.line_range(text.line_of(offset))
    before = text.source[max(start, offset - _PARTS_MAX) : offset]
    if text.language == "python":
        match = _IN_PYTHON.search(before) if is_script_of_ours(text) else None
    else:
        match = _IN_JSON.search(before) if is_data_of_ours(text) else None
    if match is None:
        return None
    key = match["key"]
    typed = match["text"]
    if key is None and match.groupdict().get("op") is None and not re.match(r"[\d*]", typed):
        return None  # any string in a list or a call: a site only where it begins like one
    names = await _names(bench, key or "site")
    # What is replaced: the last of several nodes, the site behind an operation.
    tail = re.split(r"[\s;:]", typed)[-1] if (key or "site") not in ("model",) else typed
    place = text.lsp_range(offset - len(tail), offset)
    return types.CompletionList(
        is_incomplete=False,
        items=[
            types.CompletionItem(
                label=name,
                detail=detail,
                kind=types.CompletionItemKind.Value,
                sort_text=f"{i:05d}",
                filter_text=name,
                text_edit=types.TextEdit(range=place, new_text=name),
            )
            for i, (name, detail) in enumerate(names)
        ],
    )


async def _names(bench: Workbench, key: str) -> list[tuple[str, str]]:
    """Names and what is said of each."""
    match key:
        case "model" | "other_model":
            return [
                (m.name, f"{m.n_layer} layers, {m.n_nodes:,} nodes")
                for m in await bench.facts.models()
            ]
        case "task" | "tasks":
            return [(t.name, t.description) for t in await bench.facts.tasks()]
        case "circuit":
            return [
                (f"{c.task}/{c.sweep}/{c.label}", f"{c.measured.k} nodes of {c.model}")
                for c in await bench.facts.circuits()
            ]
        case _:
            model = await bench.facts.model(bench.look().model)
            exact = [
                (s.site, f"{s.width} channels" + (f", {s.n_heads} heads" if s.n_heads else ""))
                for s in model.sites
            ]
            kinds = dict.fromkeys(
                re.sub(r"^\d+", "*", s.site) for s in model.sites if s.site[:1].isdigit()
            )
            return [*exact, *((kind, "of every layer") for kind in kinds)]

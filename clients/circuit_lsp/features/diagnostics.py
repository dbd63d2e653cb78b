"""Diagnostics in the project's own files, and quick fixes from the nearest names.

Computed when a file has been left alone for a moment. What is wrong by itself is said at once; what
only the daemon knows (names, tokens) is said when there is one.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from lsprotocol import types

from circuit_lsp.own_files.checking import Finding, check
from circuit_lsp.own_files.names import names_in
from circuit_lsp.own_files.task_files import TaskFile, read_task_file
from circuit_lsp.texts import Text
from circuit_lsp.tokens import visible
from circuit_lsp.workbench import Workbench
from circuit_protocol.errors import CircuitError

SOURCE: Final = "circuit"
_QUIET_S: Final = 0.3
#: Targets of a task file that are asked about; a larger file is checked as far as that.
_MAX_TARGETS: Final = 2000
_OWN_SUFFIXES: Final = (".py", ".json", ".jsonl")

#: Tells the editor of a document's diagnostics, at a version.
Publish = Callable[[str, int | None, list[types.Diagnostic]], None]


async def findings_in(bench: Workbench, text: Text) -> list[Finding]:
    """What is wrong in a document, as far as can be known now."""
    found: list[Finding] = []
    task = read_task_file(text)
    if task is not None:
        found += [Finding(m.message, m.start, m.end) for m in task.mistakes]
    names = names_in(text)
    if (task is None and not names) or not bench.link.is_up:
        return found
    try:
        model = await bench.facts.model(bench.look().model)
        if task is not None:
            found += await _targets(bench, model.name, task)
        found += await check(bench.facts, model, names)
    except CircuitError:
        pass  # without the daemon there is less to say
    return found


async def _targets(bench: Workbench, model: str, task: TaskFile) -> list[Finding]:
    """Targets that are not a single token of the model."""
    values = [t for pair in task.pairs for t in pair.targets if isinstance(t.data, str)]
    values = values[:_MAX_TARGETS]
    texts = sorted({str(v.data) for v in values})
    if not texts:
        return []
    rows = await bench.link.connection.tokenize(texts, model)
    wrong = {
        text: " ".join(f"`{visible(token.data)}`" for token in tokens)
        for text, tokens in zip(texts, rows, strict=True)
        if len(tokens) != 1
    }
    return [
        Finding(
            f"a target is a single token, and to {model} this is several: {wrong[str(v.data)]}",
            v.start,
            v.end,
        )
        for v in values
        if str(v.data) in wrong
    ]


def diagnostic(text: Text, finding: Finding) -> types.Diagnostic:
    """A finding as LSP has it; the names that may have been meant travel along for the fix."""
    return types.Diagnostic(
        range=text.lsp_range(finding.start, max(finding.end, finding.start)),
        message=finding.message,
        severity=types.DiagnosticSeverity.Warning,
        source=SOURCE,
        data={"nearest": list(finding.nearest)} if finding.nearest else None,
    )


def fixes(uri: str, diagnostics: list[types.Diagnostic]) -> Iterator[types.CodeAction]:
    """What replaces a name that means nothing by one that does."""
    for one in diagnostics:
        if one.source != SOURCE or one.data is None:
            continue
        data = one.data
        names = data.get("nearest") if isinstance(data, dict) else getattr(data, "nearest", None)
        for i, name in enumerate(names or ()):
            edit = types.TextEdit(range=one.range, new_text=str(name))
            yield types.CodeAction(
                title=f"Change to `{name}`",
                kind=types.CodeActionKind.QuickFix,
                diagnostics=[one],
                is_preferred=i == 0,
                edit=types.WorkspaceEdit(changes={uri: [edit]}),
            )


class Diagnosing:
    """Which documents are looked at, when, and what was published about them."""

    def __init__(self, bench: Workbench, publish: Publish) -> None:
        self._bench = bench
        self._publish = publish
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._published: set[str] = set()

    def look_at(self, uri: str) -> None:
        """A document was opened or changed: check it, once it is quiet."""
        self._cancel(uri)
        if uri.endswith(_OWN_SUFFIXES):
            self._tasks[uri] = asyncio.create_task(self._check(uri))

    def look_at_all(self) -> None:
        """The daemon came up or went away: what can be said is another thing now."""
        for uri in self._bench.documents:
            self.look_at(uri)

    def forget(self, uri: str) -> None:
        """A document was closed."""
        self._cancel(uri)
        if uri in self._published:
            self._published.discard(uri)
            self._publish(uri, None, [])

    def _cancel(self, uri: str) -> None:
        task = self._tasks.pop(uri, None)
        if task is not None:
            task.cancel()

    async def _check(self, uri: str) -> None:
        await asyncio.sleep(_QUIET_S)
        text = self._bench.documents[uri].text
        found = await findings_in(self._bench, text)
        if found or uri in self._published:
            self._published.add(uri)
            self._publish(uri, text.version, [diagnostic(text, one) for one in found])

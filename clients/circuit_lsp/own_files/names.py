"""Names of the protocol where they are written: in scripts that use the client, and in JSON.

A script counts as ours when it mentions `circuit_client`; a JSON file when it holds interventions
or a circuit. Elsewhere a string that looks like a site is left alone.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from circuit_lsp.own_files.json_places import MAX_CHARACTERS, Value, parse
from circuit_lsp.texts import Text

Kind = Literal["model", "task", "circuit", "site", "nodes", "interventions"]

_KEYWORDS: Final[dict[str, Kind]] = {
    "model": "model",
    "other_model": "model",
    "task": "task",
    "tasks": "task",
    "circuit": "circuit",
    "site": "site",
    "sites": "site",
    "nodes": "nodes",
    "keep": "nodes",
    "among": "nodes",
    "drop": "nodes",
    "add": "nodes",
}
_SITE_LIKE: Final = re.compile(r"(?:\d+|\*)\.(?:attn|mlp|resid)[\w.]*(?:\[[\d,\- ]*\])?")
_OPERATION: Final = re.compile(r"(?:zero|mean|set|scale|add|clamp|resample|freeze|keep):\S")
_LINES_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Written:
    """A name at offsets `start` to `end` of a document, without its quotes."""

    kind: Kind
    text: str
    start: int
    end: int


def names_in(text: Text) -> list[Written]:
    """Every name of the protocol in a document of ours; none in any other."""
    if text.language == "python":
        return list(_in_python(text)) if is_script_of_ours(text) else []
    if text.language in ("json", "jsonc"):
        value, _ = parse(text.source) if is_data_of_ours(text) else (None, None)
        return [] if value is None else list(_in_json(value))
    return []


def is_script_of_ours(text: Text) -> bool:
    """Whether a Python file uses the client."""
    return "circuit_client" in text.source and len(text.line_starts) <= _LINES_MAX


def is_data_of_ours(text: Text) -> bool:
    """Whether a JSON file holds interventions, or a circuit."""
    source = text.source
    if len(source) > MAX_CHARACTERS:
        return False
    return '"circuitd ' in source or ('"op"' in source and '"site"' in source)


def _in_python(text: Text) -> Iterator[Written]:
    try:
        tree = ast.parse(text.source)
    except (SyntaxError, ValueError, RecursionError):
        return  # it is being typed
    seen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for kind, constant in _in_call(node):
                seen.add(id(constant))
                yield from _written(text, kind, constant)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in seen and isinstance(node.value, str):
            if _OPERATION.match(node.value):
                yield from _written(text, "interventions", node)
            elif _SITE_LIKE.fullmatch(node.value):
                yield from _written(text, "nodes", node)


def _in_call(call: ast.Call) -> Iterator[tuple[Kind, ast.Constant]]:
    for keyword in call.keywords:
        kind = _KEYWORDS.get(keyword.arg or "")
        if kind is not None:
            for constant in _constants(keyword.value):
                yield kind, constant
    function = call.func
    if not isinstance(function, ast.Attribute):
        return
    of_iv = isinstance(function.value, ast.Name) and function.value.id == "iv"
    if of_iv and call.args:
        kind = "nodes" if function.attr == "keep" else "site"
        for constant in _constants(call.args[0]):
            yield kind, constant


def _constants(node: ast.expr) -> Iterator[ast.Constant]:
    nodes = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    for one in nodes:
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one


def _written(text: Text, kind: Kind, node: ast.Constant) -> Iterator[Written]:
    """The place of a string's content; none if its escapes or pieces make that unclear."""
    value: Any = node.value
    # ast counts bytes of UTF-8, and lines as Python's tokenizer does, which is as LSP does.
    line_start, line_end = text.line_range(node.lineno - 1)
    line = text.source[line_start:line_end]
    column = len(line.encode("utf-8", "surrogatepass")[: node.col_offset].decode("utf-8", "ignore"))
    opening = re.compile(r"[rRuU]?(\"\"\"|'''|\"|')").match(text.source, line_start + column)
    if opening is None:
        return
    start = opening.end()
    if text.source[start : start + len(value)] == value:
        yield Written(kind, value, start, start + len(value))


def _in_json(value: Value) -> Iterator[Written]:
    if isinstance(value.data, dict):
        for name, (_, inner) in value.data.items():
            kind = _KEYWORDS.get(name) if name != "add" else None
            if name in ("source", "target"):
                kind = "site"
            if kind is not None and isinstance(inner.data, str):
                # Between the quotes; one with an escape in it is no name.
                if inner.end - inner.start - 2 == len(inner.data):
                    yield Written(kind, inner.data, inner.start + 1, inner.end - 1)
            else:
                yield from _in_json(inner)
    for item in value.items():
        yield from _in_json(item)

"""The tables of docs/lsp.md, generated from the messages between markers in the page.

`python -m circuit_lsp.reference [--check]`. All else on the page is written by hand.
"""

import re
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Final

from circuit_lsp.errors import CODES
from circuit_lsp.messages import (
    METHODS,
    Message,
    circuits,
    commands,
    daemon,
    documents,
    settings,
    shared,
)
from circuit_protocol.errors import ERRORS_BY_CODE
from circuit_protocol.pages import docs_dir, write_or_check
from circuit_protocol.reference import entry, table

FILE_NAME: Final = "lsp.md"
_MARKED: Final = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _structs_of(module: ModuleType) -> Iterable[type[Message]]:
    for value in vars(module).values():
        is_message = isinstance(value, type) and issubclass(value, Message)
        if is_message and value.__module__ == module.__name__ and value is not Message:
            yield value


def _link(struct: type[Message] | None) -> str:
    return "" if struct is None else f"[{struct.__name__}](#{struct.__name__.lower()})"


def _methods(*, sent_by: str, answered: bool) -> str:
    rows = (
        (f"`{name}`", _link(m.params), *((_link(m.result),) if answered else ()), m.summary)
        for name, m in METHODS.items()
        if m.sent_by == sent_by and (m.result is not None) is answered
    )
    return table(rows, "method", "parameters", *(("result",) if answered else ()), "what for")


def _commands() -> str:
    rows = (
        (f"`{name}`", _link(c.params), _link(c.result), c.title)
        for name, c in commands.COMMANDS.items()
    )
    return table(rows, "command", "argument", "result", "what for")


def _entries(*modules: ModuleType) -> str:
    structs = (struct for module in modules for struct in _structs_of(module))
    return "\n".join(entry(struct, struct.__name__) for struct in structs)


def _errors() -> str:
    return table(
        (
            (str(number), f"`{code}`", (ERRORS_BY_CODE[code].__doc__ or "").splitlines()[0])
            for code, number in CODES.items()
        ),
        "code",
        "`data.code`",
        "meaning",
    )


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "requests": lambda: _methods(sent_by="client", answered=True),
    "notifications to the server": lambda: _methods(sent_by="client", answered=False),
    "notifications to the editor": lambda: _methods(sent_by="server", answered=False),
    "commands": _commands,
    "settings": lambda: _entries(settings),
    "errors": _errors,
    "values": lambda: _entries(shared, documents, circuits, daemon, commands),
}


def fill(page: str) -> str:
    """`page` with every generated section as it must be today.

    Raises ValueError for a marker without a section and a section without a marker.
    """
    named = {match["name"] for match in _MARKED.finditer(page)}
    if named != set(SECTIONS):
        raise ValueError(f"markers and sections differ: {sorted(named ^ set(SECTIONS))}")
    return _MARKED.sub(lambda m: f"{m[1]}\n{SECTIONS[m['name']]()}\n{m[3]}", page)


def main(arguments: list[str]) -> int:
    """Write the page's tables, or compare them (`--check`)."""
    path = docs_dir() / FILE_NAME
    return write_or_check(path, fill(path.read_text("utf-8")), arguments, "circuit_lsp.reference")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

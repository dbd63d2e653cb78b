"""The tables of keys in docs/tui.md, generated from the table that the bindings come from.

`python -m circuit_tui.reference [--check]`.
"""

import re
import sys
from typing import Final

from circuit_protocol.pages import docs_dir, write_or_check
from circuit_tui.keys import PLACES, TABLE, written

FILE_NAME: Final = "tui.md"
_MARKED: Final = re.compile(r"(<!-- generated: keys -->\n).*?(<!-- end -->)", re.DOTALL)


def keys_section() -> str:
    """A table for each place: keys, what they do, and the name to give them others by."""
    parts: list[str] = []
    for place, title in PLACES.items():
        rows = [key for key in TABLE if key.where == place]
        if not rows:
            continue
        parts.append(f"**{title}**\n\n| keys | what they do | name |\n|---|---|---|")
        parts += [
            f"| {_cell(written(key.keys))} | {key.help.replace('|', ' ')} | `{key.id}` |"
            for key in rows
        ]
        parts.append("")
    return "\n".join(parts)


def _cell(keys: str) -> str:
    return " ".join(f"`{key}`" for key in keys.split(" "))


def fill(page: str) -> str:
    """`page` with its tables as they must be today."""
    return _MARKED.sub(lambda m: f"{m[1]}\n{keys_section()}\n{m[2]}", page)


def main(arguments: list[str]) -> int:
    """Write the page's tables, or compare them (`--check`)."""
    path = docs_dir() / FILE_NAME
    return write_or_check(path, fill(path.read_text("utf-8")), arguments, "circuit_tui.reference")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

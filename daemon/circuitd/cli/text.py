"""How sizes, times, tables and structs look on a terminal and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

import click
import msgspec


def size(nbytes: float) -> str:
    """Bytes for people: "512 B", "31.4 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return (
                f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 100 else f"{nbytes:.1f} {unit}"
            )
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def duration(seconds: float) -> str:
    """A time span for people: "45 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    total = round(seconds)
    for unit, span, below, below_span in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if total >= span:
            rest = total % span // below_span
            return f"{total // span} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{total} s"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the left under their heads."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def plain(value: Any) -> Any:
    """Structs as dicts with every field, also those the wire leaves out."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def echo_json(value: Any) -> None:
    """`value` on standard output, indented, one document."""
    click.echo(json.dumps(plain(value), indent=2))

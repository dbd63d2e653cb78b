"""The bytes of tokens, as they are shown beneath a number each."""

from collections.abc import Iterable

import numpy as np

from circuit_client.cli.output import Output
from circuit_client.render.text_width import shown_bytes
from circuit_client.sync import Connection


def token_bytes(c: Connection, model: str | None, ids: Iterable[int]) -> dict[int, bytes]:
    """The bytes of each different token of `ids`, asked for at once."""
    distinct = sorted({int(i) for i in ids})
    if not distinct:
        return {}
    pieces = c.detokenize([[i] for i in distinct], model)
    return {i: piece.data or piece.text.encode() for i, piece in zip(distinct, pieces, strict=True)}


def rows_of(tokens: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """The ids of each row [B, T] without its padding."""
    return [tokens[i, : int(n)].tolist() for i, n in enumerate(lengths)]


def quoted(data: bytes, out: Output) -> str:
    """One token for a table: visible, and blanks at its ends too."""
    text = shown_bytes(data, ascii_only=out.ascii_only)
    blank = "_" if out.ascii_only else "␣"
    if text.startswith(" "):
        text = blank + text[1:]
    if text.endswith(" "):
        text = text[:-1] + blank
    return text

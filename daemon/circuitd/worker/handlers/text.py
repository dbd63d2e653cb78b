"""`tokenize` and `detokenize`: text to the model's tokens and back, with their bytes."""

from __future__ import annotations

from circuit_protocol.errors import BadTokens
from circuit_protocol.replies import TextPiece, Texts, TokenInfo, Tokens
from circuit_protocol.requests import Detokenize, Tokenize
from circuitd.store.tokenizer import Tokenizer
from circuitd.worker.context import Context
from circuitd.worker.registry import Steps


def tokenize(request: Tokenize, context: Context) -> Steps:
    """One row of tokens per text; the offset counts bytes of the UTF-8 text."""
    tokenizer = context.model.tokenizer
    rows = []
    for text in request.texts:
        rows.append(_tokens(tokenizer, text, request.allow_special))
        yield None
    yield context.output(Tokens(id=request.id, rows=tuple(rows)))


def _tokens(tokenizer: Tokenizer, text: str, allow_special: bool) -> tuple[TokenInfo, ...]:
    found: list[TokenInfo] = []
    offset = 0
    for token in tokenizer.encode(text, special=allow_special):
        data = tokenizer.token_bytes(token)
        found.append(TokenInfo(id=token, data=data, offset=offset))
        offset += len(data)
    return tuple(found)


def detokenize(request: Detokenize, context: Context) -> Steps:
    """One text per row; bytes that are no UTF-8 show as U+FFFD in `text` and exactly in `data`."""
    tokenizer = context.model.tokenizer
    rows = []
    for number, row in enumerate(request.tokens):
        for token in row:
            if not 0 <= token < tokenizer.n_vocab:
                raise BadTokens(
                    "a token is outside the vocabulary",
                    asked=f"{token} in row {number}",
                    hint=f"Ids are 0 to {tokenizer.n_vocab - 1}",
                )
        data = tokenizer.decode_bytes(row)
        rows.append(TextPiece(text=data.decode("utf-8", errors="replace"), data=data))
    yield context.output(Texts(id=request.id, rows=tuple(rows)))

"""The handlers: one module per kind of request, and the table that says who serves what."""

from __future__ import annotations

from circuit_protocol import requests
from circuitd.worker.handlers import forward, text
from circuitd.worker.registry import Registry


def all_handlers() -> Registry:
    """Every request type that a worker serves."""
    return Registry(
        {
            requests.Tokenize: text.tokenize,
            requests.Detokenize: text.detokenize,
        },
        batched={requests.Forward: forward.run},
    )

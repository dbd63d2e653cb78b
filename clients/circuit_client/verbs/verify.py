"""`verify`: put a circuit to its controls."""

from typing import Unpack

from circuit_client.call import Call, Received
from circuit_client.verbs.circuits import CircuitLike, model_of, reference
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.circuit_replies import VerifyPart, VerifyResult
from circuit_protocol.circuit_requests import Verify
from circuit_protocol.circuits import Card, Control, VerifySettings
from circuit_protocol.replies import Progress


def verify(
    circuit: CircuitLike,
    model: str | None = None,
    *,
    settings: VerifySettings | None = None,
    **options: Unpack[ModelOptions],
) -> Call[Progress | Control, Card]:
    """Whether to believe a circuit: a card with the verdict, its reasons and every control.

    The card is stored beside the circuit. A stream's events are progress reports and each control
    as it is done.
    """
    fields, progress = sort_options(model_of(circuit, model), options)
    request = Verify(circuit=reference(circuit), settings=settings or VerifySettings(), **fields)
    return Call(request, _read, _read_event, progress=progress)


def _read(received: Received) -> Card:
    return received.expect(VerifyResult).card


def _read_event(received: Received) -> Progress | Control | None:
    match received.reply:
        case Progress() as progress:
            return progress
        case VerifyPart() as part:
            return part.control
        case _:
            return None

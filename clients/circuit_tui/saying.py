"""What went wrong in words: a sentence, what was asked and found, and the next step."""

from circuit_client.call import Call
from circuit_protocol.errors import CircuitError, InvalidRequest


def said(error: CircuitError) -> list[str]:
    """An error, a line for each thing there is to say."""
    lines = [f"{error.message[:1].upper()}{error.message[1:]}."]
    lines += [
        f"{name}: {text}" for name, text in (("asked", error.asked), ("found", error.found)) if text
    ]
    if error.nearest:
        lines.append(f"nearest: {', '.join(error.nearest)}")
    if error.hint:
        lines.append(f"{error.hint}.")
    return lines


def sentence(error: CircuitError) -> str:
    """An error in one line: what happened and what to do."""
    hint = f": {error.hint[:1].lower()}{error.hint[1:]}" if error.hint else ""
    return f"{error.message}{hint}"


def explained(error: CircuitError, call: Call) -> CircuitError:
    """The same error, unless it means that the daemon is older than this client."""
    name = str(call.request.__struct_config__.tag)
    is_unknown = error.asked == name and error.message.startswith("no request type")
    if not isinstance(error, InvalidRequest) or not is_unknown:
        return error
    return InvalidRequest(
        "the daemon is of another version and does not know this request",
        asked=name,
        hint="Install the same version at both ends, then `circuitd restart`",
    )

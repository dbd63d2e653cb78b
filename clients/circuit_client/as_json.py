"""What was answered as JSON: the command line prints it, the terminal UI exports it."""

from typing import Any

import msgspec

from circuit_protocol.replies import Reply

#: What every reply carries for the wire's sake.
_ENVELOPE = ("id", "seq", "final", "type")


def encode(data: Any) -> bytes:
    """`data` as JSON: replies without their envelope, arrays as lists, NaN as null."""
    return msgspec.json.encode(public(data), enc_hook=_encode_other)


def indented(data: Any) -> str:
    """The same for a person to read."""
    return msgspec.json.format(encode(data), indent=2).decode()


def public(data: Any) -> Any:
    """A reply's content without what only the wire needs; anything else as it is."""
    if isinstance(data, Reply):
        whole = msgspec.to_builtins(data, builtin_types=(bytes,), enc_hook=_encode_other)
        return {k: v for k, v in whole.items() if k not in _ENVELOPE}
    return data


def _encode_other(value: Any) -> Any:
    tolist = getattr(value, "tolist", None)  # numpy's arrays and numbers
    if tolist is not None:
        return tolist()
    raise NotImplementedError(f"no JSON for {type(value).__name__}")

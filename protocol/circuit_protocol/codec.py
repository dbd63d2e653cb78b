"""Messages to bytes and back: frame 0 of every message, decoded by type or refused by name.

Encoding is msgpack, maps keyed by field name, fields that equal their default left out; unknown
fields are ignored, so that a newer peer of the same major version can be understood. Decoding is
typed throughout: whatever the bytes are, the outcome is a message of the union or a `RequestError`
that says which field is wrong. Nothing is allocated for a length that was only promised.
"""

import re
from typing import Any, Final, get_args

import msgspec

from circuit_protocol.errors import InvalidRequest, MalformedMessage, RequestError
from circuit_protocol.replies import AnyReply, Reply
from circuit_protocol.requests import AnyRequest, Request, RequestId

#: The `id` of an error reply to bytes from which no request id could be recovered.
UNKNOWN_ID: Final = "?"


def _by_tag(union: Any) -> dict[str, Any]:
    return {struct.__struct_config__.tag: struct for struct in get_args(union)}


#: Wire name (`type`) to struct, in the order of the specification.
REQUEST_TYPES: Final[dict[str, type[Request]]] = _by_tag(AnyRequest)
REPLY_TYPES: Final[dict[str, type[Reply]]] = _by_tag(AnyReply)


class _OnlyId(msgspec.Struct, frozen=True):
    """Any message with a valid id, whatever else it holds."""

    id: RequestId


class _OnlyType(msgspec.Struct, frozen=True):
    """Any message with a type, known or not."""

    type: str


_encoder: Final = msgspec.msgpack.Encoder()
_request_decoder: Final[msgspec.msgpack.Decoder[AnyRequest]] = msgspec.msgpack.Decoder(AnyRequest)
_reply_decoder: Final[msgspec.msgpack.Decoder[AnyReply]] = msgspec.msgpack.Decoder(AnyReply)
_id_decoder: Final = msgspec.msgpack.Decoder(_OnlyId)
_type_decoder: Final = msgspec.msgpack.Decoder(_OnlyType)

#: What decoding raises for bad bytes: msgspec's own, invalid UTF-8, nesting without end.
_BAD_BYTES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_AT: Final = re.compile(r"^(?P<problem>.*) - at `\$\.?(?P<field>.*)`$", re.DOTALL)


def encode(message: Request | Reply) -> bytes:
    """`message` as frame 0."""
    return _encoder.encode(message)


def decode_request(header: bytes | bytearray | memoryview) -> AnyRequest:
    """The request in frame 0. Raises MalformedMessage for bytes that are no message with a type,
    and InvalidRequest for an unknown type or a field that is missing or wrong.
    """
    try:
        return _request_decoder.decode(header)
    except msgspec.ValidationError as e:
        raise _wrong_field(str(e), header) from None
    except _BAD_BYTES as e:
        raise _no_message(e) from None


def decode_reply(header: bytes | bytearray | memoryview) -> AnyReply:
    """The reply in frame 0. Raises MalformedMessage: a reply is never the reader's mistake."""
    try:
        return _reply_decoder.decode(header)
    except msgspec.ValidationError as e:
        raise MalformedMessage(
            "the daemon sent a reply this client cannot read",
            asked=_peek_type(header),
            found=str(e),
            hint="Client and daemon may be of different versions: compare them with `circuitd ps`",
        ) from None
    except _BAD_BYTES as e:
        raise _no_message(e) from None


def peek_id(header: bytes | bytearray | memoryview) -> str | None:
    """The id of a message that may be undecodable otherwise, or None. Never raises."""
    try:
        return _id_decoder.decode(header).id
    except _BAD_BYTES:
        return None


def _peek_type(header: bytes | bytearray | memoryview) -> str | None:
    try:
        return _type_decoder.decode(header).type
    except _BAD_BYTES:
        return None


def _no_message(cause: Exception) -> MalformedMessage:
    if isinstance(cause, RecursionError):
        found = "values nested without end"
    elif isinstance(cause, UnicodeDecodeError):
        found = "a string that is not UTF-8"
    else:
        found = str(cause)
    return MalformedMessage(
        "frame 0 is not one msgpack message of this protocol",
        found=found,
        hint="docs/protocol.md describes the messages",
    )


def _wrong_field(text: str, header: bytes | bytearray | memoryview) -> RequestError:
    """The error for msgspec's sentence `text`, which names the field by a JSON path."""
    asked = _peek_type(header)
    if asked is None:
        return MalformedMessage("frame 0 is not a map with a `type`", found=_lower(text))
    if asked not in REQUEST_TYPES:
        return InvalidRequest.unknown("request type", asked, REQUEST_TYPES)
    at = _AT.match(text)
    if at is None:  # about the message as a whole: a required field is missing
        return InvalidRequest(f"the request is incomplete: {_lower(text)}", asked=asked)
    return InvalidRequest(
        f"field `{at['field']}` is wrong", asked=asked, found=_lower(at["problem"])
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]

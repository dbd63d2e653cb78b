"""Encoding and decoding: what goes in comes out, and bad bytes come out as named errors."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_protocol.answers import ANSWERS
from circuit_protocol.codec import (
    REPLY_TYPES,
    REQUEST_TYPES,
    decode_reply,
    decode_request,
    encode,
    peek_id,
)
from circuit_protocol.errors import InvalidRequest, MalformedMessage, RequestError
from circuit_protocol.replies import Done
from circuit_protocol.requests import Status
from protocol.messages import drawn, full

packb = msgspec.msgpack.encode
REQUESTS = st.one_of([drawn(struct) for struct in REQUEST_TYPES.values()])
REPLIES = st.one_of([drawn(struct) for struct in REPLY_TYPES.values()])


@given(REQUESTS)
def test_every_request_survives_the_wire(request):
    header = encode(request)
    assert decode_request(header) == request
    assert peek_id(header) == request.id


@given(REPLIES)
def test_every_reply_survives_the_wire(reply):
    assert decode_reply(encode(reply)) == reply


@pytest.mark.parametrize("struct", [*REQUEST_TYPES.values(), *REPLY_TYPES.values()])
def test_each_type_survives_with_every_field_set(struct):
    message = full(struct)
    decode = decode_request if struct in REQUEST_TYPES.values() else decode_reply
    assert decode(encode(message)) == message


def test_defaults_do_not_travel():
    assert msgspec.msgpack.decode(encode(Status(id="a"))) == {"type": "status", "id": "a"}
    assert msgspec.msgpack.decode(encode(Done(id="a"))) == {"type": "done", "id": "a"}


def test_unknown_fields_of_a_newer_peer_are_ignored():
    header = packb({"type": "status", "id": "a", "mood": ["good", {"very": True}]})
    assert decode_request(header) == Status(id="a")


def test_requests_know_their_answers():
    assert set(ANSWERS) == set(REQUEST_TYPES.values())
    named = {t for a in ANSWERS.values() for t in a if t is not None}
    always_possible = {"error", "job.accepted"}
    assert {t.__struct_config__.tag for t in named} | always_possible == set(REPLY_TYPES)


@pytest.mark.parametrize(
    ("message", "field", "found"),
    [
        ({"type": "credit", "id": "a", "chunks": "3"}, "chunks", "expected `int`, got `str`"),
        ({"type": "credit", "id": "a", "chunks": 0}, "chunks", "expected `int` >= 1"),
        ({"type": "status", "id": ""}, "id", "length >= 1"),
        ({"type": "status", "id": "a" * 65}, "id", "length <= 64"),
        ({"type": "status", "id": "a", "deadline_s": float("nan")}, "deadline_s", "> 0.0"),
        (
            {"type": "forward", "id": "a", "model": "m", "prompts": {"texts": ["x", 3]}},
            "prompts.texts[1]",
            "expected `str`, got `int`",
        ),
        (
            {
                "type": "forward",
                "id": "a",
                "model": "m",
                "prompts": {},
                "interventions": [{"op": "explode", "site": "x"}],
            },
            "interventions[0].op",
            "explode",
        ),
    ],
)
def test_wrong_field_is_named(message, field, found):
    with pytest.raises(InvalidRequest) as caught:
        decode_request(packb(message))
    assert f"`{field}`" in caught.value.message
    assert found in caught.value.found
    assert caught.value.asked == message["type"]


def test_missing_field_is_named():
    with pytest.raises(InvalidRequest, match="missing required field `prompts`"):
        decode_request(packb({"type": "forward", "id": "a", "model": "m"}))


def test_unknown_request_type_offers_the_nearest():
    header = packb({"type": "forwrad", "id": "a7"})
    with pytest.raises(InvalidRequest) as caught:
        decode_request(header)
    assert caught.value.nearest[0] == "forward"
    assert peek_id(header) == "a7"


NESTED = b"\x82\xa4type\xa6status\xa1x" + b"\x91" * 200_000 + b"\xc0"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n",
        packb(None),
        packb([1, 2]),
        packb({"id": "a"}),
        packb({"type": 7, "id": "a"}),
        packb({"type": "status", "id": "a"}) + b"\x00",
        packb({"type": "status", "id": "a"})[:-1],
        b"\x82\xa4type\xa6status\xa2id\xa1\xff",
        b"\xdf\xff\xff\xff\xff",
        NESTED,
        b"\xc7\xff\x05" + b"a" * 255,
    ],
    ids=lambda b: b[:12].hex() or "empty",
)
def test_bytes_that_are_no_message_are_malformed(header):
    with pytest.raises(MalformedMessage):
        decode_request(header)
    with pytest.raises(MalformedMessage):
        decode_reply(header)


def test_promised_length_costs_no_memory():
    bomb = b"\x84\xa4type\xaadetokenize\xa2id\xa1a\xa5model\xa1m\xa6tokens\xdd\xff\xff\xff\xff"
    with pytest.raises(MalformedMessage, match="truncated"):
        decode_request(bomb)


def test_reply_of_unknown_type_names_it():
    with pytest.raises(MalformedMessage, match=r"future\.reply"):
        decode_reply(packb({"type": "future.reply", "id": "a"}))


def test_peek_id_reads_what_decoding_refuses():
    assert peek_id(packb({"type": "nope", "id": "a", "x": [1]})) == "a"
    assert peek_id(packb({"type": "status", "id": 3})) is None
    assert peek_id(packb({"id": "x" * 65})) is None
    assert peek_id(NESTED) is None


def refused_or_decoded(header: bytes) -> None:
    for decode in (decode_request, decode_reply):
        with suppress(RequestError):
            decode(header)
    assert peek_id(header) is None or isinstance(peek_id(header), str)


@given(st.binary(max_size=200))
def test_noise_is_refused_by_name(noise):
    refused_or_decoded(noise)


@given(st.one_of(REQUESTS, REPLIES), st.data())
def test_damaged_message_is_refused_by_name(message, data):
    header = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(header) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                header[at] = data.draw(st.integers(0, 255))
            case "cut":
                del header[at + 1 :]
            case _:
                header[at:at] = data.draw(st.binary(max_size=4))
    refused_or_decoded(bytes(header))


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary()
)
JSONS = st.recursive(
    SCALARS,
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(st.sampled_from(sorted([*REQUEST_TYPES, *REPLY_TYPES])), st.dictionaries(st.text(), JSONS))
def test_any_map_with_a_known_type_is_refused_by_name(tag, fields):
    refused_or_decoded(packb({**fields, "type": tag, "id": "a"}))

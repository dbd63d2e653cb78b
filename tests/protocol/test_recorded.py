"""Messages recorded from released versions: today's code must read them, and lose nothing."""

import msgspec
import pytest

from circuit_protocol.codec import (
    REPLY_TYPES,
    REQUEST_TYPES,
    decode_reply,
    decode_request,
    encode,
)
from circuit_protocol.version import PROTOCOL_VERSION, is_compatible
from protocol.record import RECORDINGS, Recording


def recorded(name: str) -> list:
    """The lines of all versions that today's code must understand."""
    found = []
    for path in sorted(RECORDINGS.glob(f"*/{name}.jsonl")):
        if is_compatible(path.parent.name):
            for line in path.read_bytes().splitlines():
                recording = msgspec.json.decode(line, type=Recording)
                found.append(pytest.param(recording, id=f"{path.parent.name} {recording.type}"))
    return found


def contains(whole, part) -> bool:
    """Whether `whole` says all that `part` says (fields added since may come on top)."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            k in whole and contains(whole[k], v) for k, v in part.items()
        )
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


@pytest.mark.parametrize("recording", recorded("requests"))
def test_recorded_request_is_read_whole(recording):
    request = decode_request(bytes.fromhex(recording.msgpack))
    assert type(request) is REQUEST_TYPES[recording.type]
    says = msgspec.json.decode(msgspec.json.encode(request))
    assert contains(says, msgspec.json.decode(recording.says))


@pytest.mark.parametrize("recording", recorded("replies"))
def test_recorded_reply_is_read_whole(recording):
    reply = decode_reply(bytes.fromhex(recording.msgpack))
    assert type(reply) is REPLY_TYPES[recording.type]
    says = msgspec.json.decode(msgspec.json.encode(reply))
    assert contains(says, msgspec.json.decode(recording.says))


@pytest.mark.parametrize(("name", "types"), [("requests", REQUEST_TYPES), ("replies", REPLY_TYPES)])
def test_every_type_of_this_version_is_recorded(name, types):
    lines = (RECORDINGS / PROTOCOL_VERSION / f"{name}.jsonl").read_bytes().splitlines()
    assert {msgspec.json.decode(line, type=Recording).type for line in lines} == set(types)


def test_recorded_bytes_are_what_the_code_sends_today():
    for path in (RECORDINGS / PROTOCOL_VERSION).glob("*.jsonl"):
        decode = decode_request if path.stem == "requests" else decode_reply
        for line in path.read_bytes().splitlines():
            header = bytes.fromhex(msgspec.json.decode(line, type=Recording).msgpack)
            assert encode(decode(header)) == header

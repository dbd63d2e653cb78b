"""Record one full message of each type of today's protocol version in data/protocol/<version>/.

Run it once per version, when it is released: `PYTHONPATH=tests python -m protocol.record`. What is
recorded stays: a later version of the same major number must still read it (test_recorded.py).
"""

import sys
from pathlib import Path

import msgspec

from circuit_protocol.codec import REPLY_TYPES, REQUEST_TYPES, encode
from circuit_protocol.version import PROTOCOL_VERSION
from protocol.messages import full

RECORDINGS = Path(__file__).parents[2] / "data" / "protocol"


class Recording(msgspec.Struct):
    """A line of a recording: the bytes in hexadecimal, and what they say, as JSON shows it."""

    type: str
    msgpack: str
    says: msgspec.Raw


def record(directory: Path) -> None:
    """Write `requests.jsonl` and `replies.jsonl`."""
    directory.mkdir(parents=True)
    for name, types in (("requests", REQUEST_TYPES), ("replies", REPLY_TYPES)):
        with (directory / f"{name}.jsonl").open("wb") as file:
            for tag, struct in types.items():
                message = full(struct)
                says = msgspec.Raw(msgspec.json.encode(message))
                line = Recording(tag, encode(message).hex(), says)
                file.write(msgspec.json.encode(line) + b"\n")


if __name__ == "__main__":
    target = RECORDINGS / PROTOCOL_VERSION
    if target.exists():
        sys.exit(f"{target} is recorded already")
    record(target)

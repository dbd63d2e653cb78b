"""The protocol's own version, independent of the distribution's."""

from typing import Final

#: Major changes break; minor ones add fields with defaults, or request types (docs/protocol.md).
PROTOCOL_VERSION: Final = "1.2"

#: Optional features that a welcome names in `capabilities`: the request type of the same name.
MAP_TENSOR: Final = "tensor.map"


def is_compatible(theirs: str) -> bool:
    """Whether a peer that speaks `theirs` ("major.minor") can talk to this one: same major."""
    return theirs.partition(".")[0] == PROTOCOL_VERSION.partition(".")[0]

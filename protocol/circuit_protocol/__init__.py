"""What circuitd and its clients say: messages, tensor frames, errors, endpoints, keys."""

from circuit_protocol.version import PROTOCOL_VERSION, is_compatible

__all__ = ["PROTOCOL_VERSION", "is_compatible"]

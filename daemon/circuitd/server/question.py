"""The key of a cached answer: a digest of everything that decides it, and of nothing else.

That is the model's content hash, what is asked (without the fields that only say how: id, deadline,
priority, …), the frames, the version of this program, and the state of a user's task file.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from circuit_protocol.requests import ModelRequest
from circuit_protocol.tensors import Frame

#: Fields that do not change the answer; `model` is replaced by the hash.
_HOW: Final = {
    "id": "-",
    "model": "-",
    "deadline_s": None,
    "idempotency_key": None,
    "keep_alive_s": None,
    "use_cache": True,
    "priority": "interactive",
    "detach": False,
}
#: Order `deterministic`: equal requests become equal bytes whatever order their fields came in.
_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")


def question_key(
    model_hash: str,
    request: ModelRequest,
    frames: Sequence[Frame],
    *,
    version: str,
    task_signature: str = "",
) -> str:
    """Hexadecimal digest under which the answer to `request` is kept."""
    canonical = msgspec.structs.replace(request, **_HOW)
    digest = hashlib.blake2b(digest_size=32)
    for part in (
        version.encode(),
        model_hash.encode(),
        task_signature.encode(),
        _encoder.encode(canonical),
        *frames,
    ):
        view = memoryview(part)
        digest.update(view.nbytes.to_bytes(8, "little"))  # no two lists of parts look alike
        digest.update(view)
    return digest.hexdigest()


def request_digest(request: msgspec.Struct, frames: Sequence[Frame]) -> bytes:
    """What a request asks, without its id: to tell a retry from another use of its key."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(_encoder.encode(msgspec.structs.replace(request, id="-", deadline_s=None)))
    for frame in frames:
        digest.update(frame)
    return digest.digest()

"""Which kernels these are: what was compiled from others, or measured of them, is out of date."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

#: What stands in a file that is compiled, given to kernels, or says how they are compiled.
_WORDS: Final = (b"@jit", b"njit", b"intrinsic", b"NamedTuple")


@cache
def digest_of_kernels() -> str:
    """A digest of all files that machine code depends on."""
    return _digest(_WORDS)


@cache
def digest_of_execution() -> str:
    """A digest of all files of the sparse execution: what it costs depends on each."""
    return _digest((b"",))


def _digest(words: tuple[bytes, ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if any(word in source for word in words):
            digest.update(source)
    return digest.hexdigest()

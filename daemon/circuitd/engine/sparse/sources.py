"""Which kernels these are: what was compiled from others, or measured of them, is out of date."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def digest_of_kernels() -> str:
    """A digest of all files with anything that is compiled, or that is given to it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if any(word in source for word in (b"@jit", b"intrinsic", b"NamedTuple")):
            digest.update(source)
    return digest.hexdigest()

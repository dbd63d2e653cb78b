"""A held tensor's file, mapped as an array: what a client on the daemon's machine does not copy.

The path comes from whoever answers on the socket, and that socket may be forwarded from elsewhere.
So the file is taken only if it is what the daemon would have written: of this user and for nobody
else, a plain file of the right size, named by the handle.
"""

import mmap
import os
import stat
import weakref
from pathlib import Path
from typing import Final

import numpy as np

from circuit_protocol.errors import NotFound
from circuit_protocol.tensors import NUMPY_DTYPES, Handle

#: How many files may be mapped at once: until Python 3.13 each keeps a descriptor open.
MAX_MAPPED: Final = 256
#: Neither a link nor a device that waits is followed.
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_mapped: "weakref.WeakSet[mmap.mmap]" = weakref.WeakSet()


def has_room() -> bool:
    """Whether another file may be mapped."""
    return len(_mapped) < MAX_MAPPED


def map_file(path: Path, handle: Handle) -> np.ndarray:
    """The tensor in `path` as an array of `handle`'s shape; BF16 as bits (uint16).

    Writing to it changes pages of this process only. It stays whole when the file is removed.
    Raises NotFound for a file that is not there, or not this tensor's.
    """
    if path.name != handle.handle:
        raise _not_it(path, "another name than the handle's")
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise _not_it(path, error.strerror or "it cannot be opened") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise _not_it(path, f"user {found.st_uid}, mode {found.st_mode:o}")
        if found.st_size != handle.nbytes:
            raise _not_it(path, f"{found.st_size} bytes")
        mapped = mmap.mmap(descriptor, handle.nbytes, access=mmap.ACCESS_COPY)
        _mapped.add(mapped)
        return np.frombuffer(mapped, dtype=NUMPY_DTYPES[handle.dtype]).reshape(handle.shape)
    except (OSError, ValueError) as error:  # ValueError: empty, or a shape of another size
        raise _not_it(path, str(error)) from None
    finally:
        os.close(descriptor)


def _not_it(path: Path, found: str) -> NotFound:
    return NotFound("this is not the tensor's file", asked=str(path), found=found)

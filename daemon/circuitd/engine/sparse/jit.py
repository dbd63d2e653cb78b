"""How the kernels of the sparse execution are compiled.

Kernels run without the interpreter's lock and are kept on disk between processes. Sums over lanes
may be taken in any order where a kernel says so (`jit_reduce`); nothing else may be rearranged, and
`jit_exact` does not even fuse products into sums (but `vectors` always may).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numba

from circuitd.engine.sparse.sources import digest_of_kernels

_REDUCES: Final = {"reassoc", "contract"}
_FUSES: Final = {"contract"}


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's decorator; what is kept on disk is of these very sources, and each file of it of one
    process.

    Numba by itself would compile again only what stands in a file that has changed, not what calls
    it. And two processes that compile a function for different arguments might write the same file,
    of which one would then be taken for the other's.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        compiled: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
        if compiled is not function:  # else NUMBA_DISABLE_JIT is set
            compiled.enable_caching()
            base = Path(compiled._cache._cache_file._index_name).stem
            _replace(
                compiled._cache._cache_file,
                _source_stamp=digest_of_kernels(),
                _data_name_pattern=f"{base}.{_mark()}-{os.getpid()}-{{number:d}}.nbc",
            )
        return compiled

    return decorate


def _mark() -> str:
    """What the files of these sources have in their names."""
    return digest_of_kernels()[:8]


def forget_others(directory: Path) -> None:
    """Remove what is kept below `directory` of other sources than these; numba never does."""
    for index in directory.rglob("__pycache__/*.nbi"):
        if digest_of_kernels().encode() not in index.read_bytes():
            index.unlink(missing_ok=True)
    for data in directory.rglob("__pycache__/*.nbc"):
        if f".{_mark()}-" not in data.name:
            data.unlink(missing_ok=True)


def _replace(cache_file: Any, **attributes: str) -> None:
    for name, value in attributes.items():
        if not hasattr(cache_file, name):
            raise RuntimeError(
                f"numba {numba.__version__} keeps its cache in another way: no {name}"
            )
        setattr(cache_file, name, value)


jit = _compiled(fastmath=_FUSES)
jit_exact = _compiled()
jit_reduce = _compiled(fastmath=_REDUCES)
jit_inline = _compiled(fastmath=_FUSES, inline="always")

"""No orphans: a worker ends with the front that started it, however that ended.

The kernel kills the worker when its parent dies (Linux); elsewhere the I/O thread looks at the
parent's id with every heartbeat. Both begin before torch is imported: that takes seconds, in which
a front may die and another take its place, and the orphan would present itself to that one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

#: Exit status of a worker whose front is gone.
EXIT_FRONT_GONE: Final = 3
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class Parent:
    """The process that started this one, as it was at construction."""

    def __init__(self, pid: int | None = None) -> None:
        #: Given when the starter knows better: it may have died before this line ran.
        self.pid = os.getppid() if pid is None else pid

    def tie_life(self) -> None:
        """Have this process killed when the thread that started it ends (Linux; else nothing)."""
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def is_alive(self) -> bool:
        """Whether it still is this process's parent: an orphan gets another one at once."""
        return os.getppid() == self.pid

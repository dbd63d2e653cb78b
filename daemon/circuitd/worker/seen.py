"""Values of nodes over pretraining text, seen once: who looks at one node looks at the next.

A pass over the text takes seconds, whether one channel of it is recorded or all that a circuit has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import numpy as np

#: Bytes remembered; a node's values over the shipped text take 256 kB.
MAX_NBYTES: Final = 64 << 20


class Seen:
    """The values seen last, float32 [rows, positions], by everything that decides them."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._nbytes = 0

    def get(self, key: Hashable) -> np.ndarray | None:
        """What was kept under `key`, if it is still remembered."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def keep(self, key: Hashable, values: np.ndarray) -> None:
        """Remember `values`; what was not asked for longest goes for it."""
        self._nbytes -= self._values.pop(key, values[:0]).nbytes
        self._values[key] = values
        self._nbytes += values.nbytes
        while self._nbytes > MAX_NBYTES:
            self._nbytes -= self._values.popitem(last=False)[1].nbytes

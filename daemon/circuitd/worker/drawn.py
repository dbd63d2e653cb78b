"""Task prompts drawn once: the pairs that circuits are measured on, again and again.

Drawing a few hundred pairs takes as long as running a small circuit on them, and each edit of a
circuit wants the same ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from circuitd.circuits.prompts import ScoredPrompts

#: Batches remembered; one of 256 pairs takes 200 kB.
_MAX_BATCHES: Final = 64


class Drawn:
    """The batches drawn last, by everything that decides them."""

    def __init__(self) -> None:
        self._batches: OrderedDict[Hashable, ScoredPrompts] = OrderedDict()

    def get(self, key: Hashable, draw: Callable[[], ScoredPrompts]) -> ScoredPrompts:
        """The batch of `key`, drawn if it is not remembered."""
        if key not in self._batches:
            self._batches[key] = draw()
            if len(self._batches) > _MAX_BATCHES:
                self._batches.popitem(last=False)
        self._batches.move_to_end(key)
        return self._batches[key]

"""Values that took long to make, kept while they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Lru(Generic[V]):
    """Values by everything that decides them; what was not asked for longest goes first.

    Together they take `capacity` at most: each the `size` it has when it is kept, by default one.
    """

    def __init__(self, capacity: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._capacity = capacity
        self._size = size
        #: With their sizes, the one asked for last at the end.
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._total = 0

    def get(self, key: Hashable) -> V | None:
        """What was kept under `key`, if it is still here."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def keep(self, key: Hashable, value: V) -> V:
        """Keep `value`, in place of what `key` had, and give it back.

        One that is larger than the capacity is not kept, and nothing goes for it.
        """
        if key in self._values:
            self._total -= self._values.pop(key)[1]
        size = self._size(value)
        if size <= self._capacity:
            self._values[key] = value, size
            self._total += size
        while self._total > self._capacity:
            self._total -= self._values.popitem(last=False)[1][1]
        return value

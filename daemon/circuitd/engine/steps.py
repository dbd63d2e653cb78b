"""Computations in bounded steps: generators that yield at each boundary and return their result.

The worker puts other clients' requests between two steps; a notebook runs them to the end.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]


def finish(steps: Generator[object, None, T]) -> T:
    """Run `steps` to the end; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value

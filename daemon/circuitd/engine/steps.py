"""Computations in bounded steps: generators that yield at each boundary and return their result.

The worker puts other clients' requests between two steps; a notebook runs them to the end. How long
a step is depends on whether anybody waits for it: what can stop at many places asks at each.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]


def _nobody_waits() -> bool:
    return False


#: Whether somebody waits for the thread that takes the steps. Whoever serves others with it says
#: so here; by default nobody does.
somebody_waits: ContextVar[Callable[[], bool]] = ContextVar("somebody_waits", default=_nobody_waits)


def finish(steps: Generator[object, None, T]) -> T:
    """Run `steps` to the end; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value

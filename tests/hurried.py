"""Computations in steps as they go when somebody waits: each step ends as soon as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from circuitd.engine.sparse import threads
from circuitd.engine.steps import somebody_waits


@contextmanager
def hurried(waits: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Within, `waits` says whether somebody waits, from the beginning of a step on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_LEAST_S", 0.0)
        token = somebody_waits.set(waits)
        try:
            yield
        finally:
            somebody_waits.reset(token)

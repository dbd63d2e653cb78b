"""The threads that kernels are shared out over: the one that asks, and a few that wait for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


class Threads:
    """`n` threads, the calling one included. Re-entrant: callers may share them."""

    def __init__(self, n: int | None = None) -> None:
        """`n` None: as many as torch uses."""
        self.n = n or max(1, min(torch.get_num_threads(), os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(max(1, self.n - 1), thread_name_prefix="kernels")

    def share(self, work: Callable[[int, int], None], n: int) -> None:
        """Run `work` on 0 .. n-1, each number on whichever thread is free; it is also told which
        thread, 0 .. self.n - 1, runs it.
        """
        numbers = itertools.count()

        def some(thread: int) -> None:
            while (number := next(numbers)) < n:
                work(number, thread)

        others = [self._pool.submit(some, i) for i in range(1, min(self.n, n))]
        try:
            some(0)
        finally:
            for other in others:
                other.result()

"""The threads that kernels are shared out over: the one that asks, and a few that wait for it."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import torch

from circuitd.engine.steps import Steps, somebody_waits

#: A step goes on for so long although somebody waits: what comes in a stream would stop all else.
_LEAST_S: Final = 0.004
#: And ends after so long although nobody does: a cancelled computation is to end.
_MOST_S: Final = 0.05
#: How often a thread that has nothing left to do looks whether to end the step.
_LOOK_S: Final = 0.001


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

    def in_steps(self, work: Callable[[int, int], None], n: int, length: int = 1) -> Steps[None]:
        """Carry out chains 0 .. n-1 of `length` links, `work(chain, link)` for each: the links of a
        chain in their order, the chains on whichever threads are free.

        A step ends between two links, soon after somebody waits for this thread. At most `self.n`
        chains are begun and not ended.
        """
        left = deque((chain, 0) for chain in range(n))
        while left:
            self._step(work, length, left)
            if left:
                yield None

    def _step(
        self, work: Callable[[int, int], None], length: int, left: deque[tuple[int, int]]
    ) -> None:
        """Take chains from `left` until it is time to stop, and put back what was not finished."""
        began_s, is_over = time.perf_counter(), False
        waits = somebody_waits.get()

        def look() -> None:
            nonlocal is_over
            elapsed_s = time.perf_counter() - began_s
            is_over = is_over or elapsed_s > _MOST_S or (elapsed_s > _LEAST_S and waits())

        def some(is_asking: bool) -> None:
            while not is_over:
                try:
                    chain, link = left.popleft()
                except IndexError:
                    return
                while True:
                    work(chain, link)
                    link += 1
                    if is_asking:  # the socket that tells belongs to this thread
                        look()
                    if link == length:
                        break
                    if is_over:
                        left.appendleft((chain, link))
                        return

        others = [self._pool.submit(some, False) for _ in range(min(self.n, len(left)) - 1)]
        try:
            some(True)
            while wait(others, _LOOK_S).not_done:
                look()
        finally:
            is_over = True
            for other in others:
                other.result()

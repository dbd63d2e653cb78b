"""Kernels shared out over threads, in steps that end when somebody waits."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitd.engine.sparse import threads as module
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.steps import finish
from hurried import hurried


@given(
    n_threads=st.integers(1, 4),
    n=st.integers(0, 9),
    length=st.integers(1, 4),
    every=st.integers(1, 5),
)
def test_every_chain_is_carried_out_in_order_however_often_it_is_interrupted(
    n_threads, n, length, every
):
    done: list[tuple[int, int]] = []
    count = iter(range(1, 10**6))
    with hurried(lambda: next(count) % every == 0):
        finish(Threads(n_threads).in_steps(lambda *link: done.append(link), n, length))
    assert sorted(done) == [(chain, link) for chain in range(n) for link in range(length)]
    for chain in range(n):
        assert [link for of, link in done if of == chain] == list(range(length))


def test_a_step_is_the_whole_when_nobody_waits(monkeypatch):
    monkeypatch.setattr(module, "_MOST_S", 3600.0)
    assert sum(1 for _ in Threads(2).in_steps(lambda *_: None, 5, 3)) == 0


def test_a_step_ends_after_a_link_when_somebody_waits():
    done: list[tuple[int, int]] = []
    steps = Threads(1).in_steps(lambda *link: done.append(link), 2, 2)
    with hurried():
        for n_done in (1, 2, 3):
            next(steps)
            assert len(done) == n_done
        with pytest.raises(StopIteration):
            next(steps)
    assert done == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_step_goes_on_for_a_while_although_somebody_waits(monkeypatch):
    with hurried():
        monkeypatch.setattr(module, "_LEAST_S", 3600.0)
        monkeypatch.setattr(module, "_MOST_S", 3600.0)
        assert sum(1 for _ in Threads(2).in_steps(lambda *_: None, 9)) == 0


def test_a_step_ends_after_a_while_although_nobody_waits(monkeypatch):
    monkeypatch.setattr(module, "_MOST_S", 0.0)
    assert sum(1 for _ in Threads(1).in_steps(lambda *_: None, 3)) == 2


def test_only_the_thread_that_takes_the_steps_is_asked_who_waits():
    asked: list[threading.Thread] = []
    all_three = threading.Barrier(3)
    with hurried(lambda: bool(asked.append(threading.current_thread()))):
        finish(Threads(3).in_steps(lambda _, link: link or all_three.wait(60), 3, 3))
    assert set(asked) == {threading.current_thread()}


def test_a_thread_that_has_nothing_left_to_do_still_ends_the_step_of_the_others():
    both, links = threading.Barrier(2), threading.Semaphore(0)
    ours = threading.current_thread()
    n_ours = n_others = 0

    def work(chain: int, link: int) -> None:
        nonlocal n_ours, n_others
        if link == 0:
            both.wait(60)  # each thread has one chain
        if threading.current_thread() is ours:
            n_ours += 1
        elif links.acquire(timeout=60):
            n_others += 1

    def waits() -> bool:
        if n_ours < 50:
            return False
        links.release()  # one link more, each time that we look
        return n_others >= 3

    steps = Threads(2).in_steps(work, 2, 50)
    with hurried(waits):
        next(steps)
    links.release(50)
    assert 3 <= n_others < 50
    finish(steps)
    assert n_others + n_ours == 100


def test_no_more_chains_are_under_way_than_threads():
    under_way: set[int] = set()
    most, lock = 0, threading.Lock()

    def work(chain: int, link: int) -> None:
        nonlocal most
        with lock:
            under_way.add(chain)
            most = max(most, len(under_way))
            if link == 2:
                under_way.remove(chain)

    with hurried():
        finish(Threads(2).in_steps(work, 12, 3))
    assert most <= 2


def test_what_a_link_raises_ends_the_step_and_the_other_threads():
    def work(chain: int, link: int) -> None:
        if chain == 1:
            raise ZeroDivisionError

    threads = Threads(2)
    with pytest.raises(ZeroDivisionError):
        finish(threads.in_steps(work, 4, 1000))
    finish(threads.in_steps(lambda *_: None, 4))  # and they are there for the next

"""The queues: bounded, fair, interactive first, forwards merged; the state stays consistent."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from circuit_protocol.errors import Busy
from circuitd.server.scheduler import QueueLimits, Scheduler, Slots, WorkItem
from circuitd.work import ModelKey

M = ModelKey(path="/m", signature="1")


def item(number: int, client: bytes = b"a", **fields: object) -> WorkItem:
    base = {"request_id": f"r{number}", "request_type": "hook", "header": b"", "nbytes": 1}
    return WorkItem(number=number, client=client, **{**base, **fields})  # type: ignore[arg-type] # any field


def anything(_: WorkItem) -> bool:
    return True


def numbers(items: tuple[WorkItem, ...]) -> list[int]:
    return [i.number for i in items]


def drain(scheduler: Scheduler, worker: int = 1) -> list[list[int]]:
    """Run everything, one run at a time; the runs' numbers in order."""
    runs = []
    while items := scheduler.take(worker, anything, 0.0):
        runs.append(numbers(items))
        for one in items:
            scheduler.finish(one.number, 1.0)
    return runs


def test_clients_take_turns_whatever_one_of_them_queues() -> None:
    s = Scheduler()
    for n in range(10):
        s.submit(item(n, b"greedy"))
    s.submit(item(100, b"modest"))
    s.submit(item(101, b"modest"))
    assert drain(s)[:4] == [[0], [100], [1], [101]]


def test_interactive_work_goes_before_batch_work_that_came_first() -> None:
    s = Scheduler()
    s.submit(item(1, priority="batch"))
    s.submit(item(2))
    assert drain(s) == [[2], [1]]


def test_batch_work_has_slots_of_its_own_under_endless_interactive_load() -> None:
    s = Scheduler(slots=Slots(interactive=1, batch=1))
    s.submit(item(1))
    s.submit(item(2))
    s.submit(item(3, priority="batch"))
    assert numbers(s.take(1, anything, 0.0)) == [1]
    assert numbers(s.take(1, anything, 0.0)) == [3]  # though item 2 still waits
    assert s.take(1, anything, 0.0) == ()


def test_forwards_of_a_model_that_wait_together_share_a_run_within_the_cost_limit() -> None:
    s = Scheduler(QueueLimits(merged_cost=10))
    for n, client in enumerate((b"a", b"b", b"c", b"d")):
        s.submit(item(n, client, merge_key="m", cost=4))
    s.submit(item(9, b"e", merge_key="other", cost=1))
    assert numbers(s.take(1, anything, 0.0)) == [0, 1]
    assert numbers(s.take(1, anything, 0.0)) == [2, 3]
    assert s.take(1, anything, 0.0) == ()  # both slots of merged runs are taken
    s.finish(0, 0.0)
    s.finish(1, 0.0)
    assert numbers(s.take(1, anything, 0.0)) == [9]


def test_a_forward_dearer_than_the_limit_still_runs_alone() -> None:
    s = Scheduler(QueueLimits(merged_cost=10))
    s.submit(item(1, merge_key="m", cost=50))
    s.submit(item(2, merge_key="m", cost=1))
    assert numbers(s.take(1, anything, 0.0)) == [1]


def test_work_whose_model_is_not_there_does_not_hold_up_other_work() -> None:
    s = Scheduler()
    s.submit(item(1, model=M))
    s.submit(item(2))
    assert numbers(s.take(1, lambda i: i.model is None, 0.0)) == [2]


@pytest.mark.parametrize(
    "limits",
    [
        QueueLimits(client_items=2),
        QueueLimits(client_nbytes=2),
        QueueLimits(total_nbytes=2),
    ],
)
def test_a_full_queue_is_busy_and_says_when_to_come_back(limits: QueueLimits) -> None:
    s = Scheduler(limits)
    s.submit(item(1))
    s.submit(item(2))
    with pytest.raises(Busy) as caught:
        s.submit(item(3))
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    s.check_invariants()
    s.stop(s.items[1])
    s.submit(item(3))


def test_queued_work_that_is_stopped_is_dropped_and_running_work_told_once() -> None:
    s = Scheduler()
    s.submit(item(1))
    s.submit(item(2))
    (running,) = s.take(1, anything, 0.0)
    assert s.stop(s.items[2]) == "dropped"
    assert s.stop(running) == "stopping"
    assert s.stop(running) == "already"
    assert s.finish(running.number, 1.0) is running
    assert not s.items


def test_deadlines_are_reported_once_for_queued_and_running_work_but_not_for_finished() -> None:
    s = Scheduler()
    for n in (1, 2, 3):
        s.submit(item(n, deadline_at=float(n)))
    s.take(1, anything, 0.0)
    s.take(1, anything, 0.0)
    s.finish(2, 0.5)
    assert s.next_deadline() == 1.0
    assert numbers(s.expired(1.0)) == [1]
    assert s.expired(1.0) == ()
    assert s.next_deadline() == 3.0
    assert numbers(s.expired(5.0)) == [3]


def test_the_deadline_of_work_that_was_queued_again_is_reported_once() -> None:
    s = Scheduler()
    for n in (1, 2):
        s.submit(item(n, deadline_at=5.0))
        s.take(1, anything, 0.0)
    _, (other,) = s.lose_worker(1)
    s.requeue(other)
    assert numbers(s.expired(6.0)) == [2]


def test_a_lost_worker_suspects_its_oldest_run_and_the_rest_can_go_first_again() -> None:
    s = Scheduler()
    for n in (1, 2, 3):
        s.submit(item(n))
    s.take(1, anything, 0.0)
    s.take(1, anything, 0.0)
    suspected, others = s.lose_worker(1)
    assert numbers(suspected) == [1]
    assert numbers(others) == [2]
    assert others[0].deaths == 1
    s.requeue(others[0])
    s.check_invariants()
    assert drain(s, worker=2) == [[2], [3]]


class SchedulerMachine(RuleBasedStateMachine):
    """Anything may happen in any order; nothing is lost, run twice, or over its bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.s = Scheduler(
            QueueLimits(client_items=4, client_nbytes=20, total_nbytes=40, merged_items=3),
            Slots(interactive=2, batch=1, merged=1),
        )
        self.n = 0
        self.accepted: set[int] = set()
        self.over: set[int] = set()

    @rule(
        client=st.sampled_from([b"a", b"b", b"c"]),
        priority=st.sampled_from(["interactive", "batch"]),
        nbytes=st.integers(0, 10),
        mergeable=st.booleans(),
        deadline=st.none() | st.floats(0, 10),
    )
    def submit(self, client, priority, nbytes, mergeable, deadline) -> None:
        self.n += 1
        new = item(
            self.n,
            client,
            priority=priority,
            nbytes=nbytes,
            merge_key=priority if mergeable else None,
            deadline_at=deadline,
        )
        try:
            self.s.submit(new)
        except Busy:
            return
        self.accepted.add(self.n)

    @rule(worker=st.sampled_from([1, 2]), odd=st.booleans())
    def take(self, worker: int, odd: bool) -> None:
        taken = self.s.take(worker, lambda i: not odd or i.number % 2 == 1, 0.0)
        assert len({(i.merge_key, i.priority) for i in taken}) <= 1
        assert len(taken) <= 3
        assert all(not odd or i.number % 2 for i in taken)

    @precondition(lambda self: self.s.items)
    @rule(data=st.data())
    def finish(self, data) -> None:
        number = data.draw(st.sampled_from(sorted(self.s.items)))
        if self.s.finish(number, 1.0) is not None:
            self.over.add(number)

    @precondition(lambda self: self.s.items)
    @rule(data=st.data())
    def stop(self, data) -> None:
        number = data.draw(st.sampled_from(sorted(self.s.items)))
        if self.s.stop(self.s.items[number]) == "dropped":
            self.over.add(number)

    @rule(worker=st.sampled_from([1, 2]), again=st.booleans())
    def lose(self, worker: int, again: bool) -> None:
        suspected, others = self.s.lose_worker(worker)
        self.over |= set(numbers(suspected))
        for one in others:
            if again:
                self.s.requeue(one)
            else:
                self.over.add(one.number)

    @rule(now=st.floats(0, 10))
    def expire(self, now: float) -> None:
        for one in self.s.expired(now):
            if self.s.stop(one) == "dropped":
                self.over.add(one.number)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.s.check_invariants()
        assert self.s.items.keys() == self.accepted - self.over

    def teardown(self) -> None:
        for worker in (1, 2):
            for number in [n for n, i in self.s.items.items() if i.worker == worker]:
                self.s.finish(number, 1.0)
            drain(self.s, worker)
        assert not self.s.items
        self.s.check_invariants()


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

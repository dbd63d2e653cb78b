"""Which work runs next: bounded queues, fair between clients, interactive first, forwards merged.

A pure state machine: events come in as method calls with the time as an argument, and what to do
comes back as values. It knows nothing of sockets, replies or models; whether a work item can run on
a worker now is asked through a predicate.

- Each client has one queue per priority, bounded in items and bytes; a full one is `Busy`.
- A worker runs a few *runs* at once (`Slots`). Interactive runs and batch runs have slots of their
  own, so batch work is neither starved by interactive work nor in its way.
- Clients take turns: the one served last goes to the end of the line.
- Plain forwards of the same model that wait together become one run. They have fewer slots than
  other work, so that what arrives meanwhile gathers into the next run instead of going one by one.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain
from typing import Literal

from circuit_protocol.errors import Busy
from circuit_protocol.requests import ModelRequest
from circuit_protocol.tensors import Frame
from circuitd.work import Item, ModelKey, Segment

#: A connection: the number of its port in one byte, then its ZeroMQ routing id.
ClientId = bytes
Priority = Literal["interactive", "batch"]
#: Priorities in the order they are served.
PRIORITIES: tuple[Priority, Priority] = ("interactive", "batch")


@dataclass(slots=True, eq=False)
class WorkItem:
    """One request that waits for a worker or runs on one."""

    number: int
    client: ClientId
    request_id: str
    request_type: str
    header: bytes
    frames: tuple[Frame, ...] = ()
    nbytes: int = 0
    model: ModelKey | None = None
    priority: Priority = "interactive"
    keep_alive_s: float | None = None
    deadline_at: float | None = None
    #: Items with equal keys may share a run; None never merges.
    merge_key: Hashable = None
    #: rows x positions, what the merge limit counts.
    cost: int = 1
    job: str | None = None
    checkpoint_dir: str | None = None
    segments: tuple[Segment, ...] = ()
    request: ModelRequest | None = None
    #: Worker deaths this item was in flight for.
    deaths: int = 0
    #: Answers the worker has given so far; an item that has spoken cannot be run again unseen.
    answers: int = 0
    #: The key under which the answer will be stored, once the model's hash is known.
    question: str | None = None
    worker: int | None = None
    run: int | None = None
    started_at: float = 0.0
    stopping: bool = False

    def for_worker(self) -> Item:
        """What a worker is told of it."""
        return Item(
            work=self.number,
            header=self.header,
            n_frames=len(self.frames),
            model=self.model,
            segments=self.segments,
            checkpoint_dir=self.checkpoint_dir,
        )


@dataclass(frozen=True, slots=True)
class Slots:
    """How many runs a worker has in flight at once, by kind."""

    interactive: int = 4
    batch: int = 2
    merged: int = 2


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of the queues, and of what one merged run may hold."""

    client_items: int = 256
    client_nbytes: int = 256 << 20
    total_nbytes: int = 1 << 30
    merged_items: int = 32
    merged_cost: int = 16384


@dataclass(slots=True)
class _Run:
    number: int
    worker: int
    priority: Priority
    merged: bool
    started_at: float
    items: set[int] = field(default_factory=set)


class Scheduler:
    """The queues and what is running, for all workers."""

    def __init__(self, limits: QueueLimits | None = None, slots: Slots | None = None) -> None:
        self.limits = limits or QueueLimits()
        self.slots = slots or Slots()
        #: Every unfinished item: queued in exactly one queue, or running in exactly one run.
        self.items: dict[int, WorkItem] = {}
        #: Nonempty queues only; the order of the clients is the order of their turns.
        self.queues: dict[Priority, dict[ClientId, deque[WorkItem]]] = {p: {} for p in PRIORITIES}
        #: Runs in flight, in the order they began.
        self.runs: dict[int, _Run] = {}
        #: Bytes queued per client: the sum over its queued items; no entry is zero-length.
        self.queued_nbytes: dict[ClientId, int] = {}
        self.queued_items: dict[ClientId, int] = {}
        self.total_queued_nbytes = 0
        self._deadlines: list[tuple[float, int]] = []
        self._next_run = 1
        #: Seconds a run takes, smoothed: the base of `retry_after_s`.
        self.run_s = 0.1

    # ---- events

    def submit(self, item: WorkItem) -> None:
        """Queue `item`. Raises Busy as `check_room`; a job was let in before it was recorded."""
        if item.job is None:
            self.check_room(item.client, item.nbytes)
        self._enqueue(item)

    def check_room(self, client: ClientId, nbytes: int) -> None:
        """Raise Busy when one more item would pass a bound."""
        items = self.queued_items.get(client, 0)
        queued_nbytes = self.queued_nbytes.get(client, 0)
        limits = self.limits
        if items >= limits.client_items:
            raise self.busy(f"{items} requests of this client are waiting already")
        if items and queued_nbytes + nbytes > limits.client_nbytes:
            raise self.busy(f"{queued_nbytes} bytes of this client's requests are waiting already")
        total = self.total_queued_nbytes
        if total and total + nbytes > limits.total_nbytes:
            raise self.busy(f"{total} bytes of requests are waiting already")

    def take(
        self, worker: int, can_run: Callable[[WorkItem], bool], now: float
    ) -> tuple[WorkItem, ...]:
        """The next run for `worker`, now running; empty when it has no slot or nothing can run."""
        if not self.queued_items:
            return ()
        in_flight = [run for run in self.runs.values() if run.worker == worker]
        merged_free = self.slots.merged - sum(run.merged for run in in_flight)
        for priority in PRIORITIES:
            free = (
                self.slots.interactive if priority == "interactive" else self.slots.batch
            ) - sum(run.priority == priority for run in in_flight)
            if free <= 0:
                continue
            lead = self._first(
                priority,
                lambda item: (item.merge_key is None or merged_free > 0) and can_run(item),
            )
            if lead is None:
                continue
            chosen = [lead]
            self._dequeue(lead)
            if lead.merge_key is not None:
                chosen += self._companions(lead, can_run)
            run = _Run(self._next_run, worker, priority, lead.merge_key is not None, now)
            self._next_run += 1
            self.runs[run.number] = run
            for item in chosen:
                item.worker, item.run, item.started_at = worker, run.number, now
                run.items.add(item.number)
            return tuple(chosen)
        return ()

    def finish(self, number: int, now: float) -> WorkItem | None:
        """A running item gave its final answer; None if it is not known (any more)."""
        item = self.items.get(number)
        if item is None or item.run is None:
            return None
        run = self.runs[item.run]
        self._leave_run(item)
        if not run.items:
            self.run_s += 0.2 * (now - run.started_at - self.run_s)
        return item

    def stop(self, item: WorkItem) -> Literal["dropped", "stopping", "already"]:
        """Stop an unfinished item: a queued one is dropped, a running one must be told."""
        if item.run is None:
            self._dequeue(item, served=False)
            del self.items[item.number]
            return "dropped"
        if item.stopping:
            return "already"
        item.stopping = True
        return "stopping"

    def expired(self, now: float) -> tuple[WorkItem, ...]:
        """The unfinished items whose deadline has passed, each reported once."""
        due: dict[int, WorkItem] = {}  # an item that was queued again stands on the heap twice
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heappop(self._deadlines)
            if (item := self.items.get(number)) is not None:
                due[number] = item
        return tuple(due.values())

    def next_deadline(self) -> float | None:
        """When `expired` should be asked next."""
        while self._deadlines and self._deadlines[0][1] not in self.items:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def lose_worker(self, worker: int) -> tuple[tuple[WorkItem, ...], tuple[WorkItem, ...]]:
        """A worker died: the items of its oldest run (suspected), and those of its other runs.

        All leave the scheduler; `requeue` takes back what may run again.
        """
        runs = [run for run in self.runs.values() if run.worker == worker]
        lost = [[self.items[number] for number in sorted(run.items)] for run in runs]
        for item in chain.from_iterable(lost):
            self._leave_run(item)
            item.deaths += 1
        suspected = lost[0] if lost else []
        return tuple(suspected), tuple(chain.from_iterable(lost[1:]))

    def requeue(self, item: WorkItem) -> None:
        """Put back an item that lost its worker, ahead of its client's other work, even if full."""
        self._enqueue(item, first=True)

    # ---- questions

    @property
    def n_queued(self) -> int:
        """Items that wait."""
        return sum(self.queued_items.values())

    @property
    def n_running(self) -> int:
        """Items in flight."""
        return len(self.items) - self.n_queued

    def queued(self) -> Iterator[WorkItem]:
        """All waiting items, in the order of the clients' turns."""
        for queues in self.queues.values():
            for queue in queues.values():
                yield from queue

    def running_on(self, worker: int) -> tuple[WorkItem, ...]:
        """The items in flight on a worker."""
        return tuple(item for item in self.items.values() if item.worker == worker)

    def busy(self, found: str) -> Busy:
        """The error for what has no room, with a time to wait that fits how long runs take."""
        wait_s = min(30.0, max(0.05, self.run_s * (1 + self.n_queued / self.slots.interactive)))
        return Busy("the queue is full", found=found, retry_after_s=round(wait_s, 3))

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        queued = list(self.queued())
        numbers = {item.number for item in queued}
        assert len(numbers) == len(queued), "an item is queued twice"
        running = {n for run in self.runs.values() for n in run.items}
        assert not numbers & running, "an item is queued and running"
        assert numbers | running == self.items.keys(), "an item is nowhere or unknown"
        assert all(run.items for run in self.runs.values()), "an empty run is in flight"
        for queues in self.queues.values():
            assert all(queues.values()), "an empty queue was kept"
        for client in {item.client for item in queued} | self.queued_items.keys():
            mine = [item for item in queued if item.client == client]
            assert self.queued_items[client] == len(mine) > 0
            assert self.queued_nbytes[client] == sum(item.nbytes for item in mine)
        assert self.total_queued_nbytes == sum(item.nbytes for item in queued)
        for item in self.items.values():
            assert (item.run is None) == (item.worker is None)
            if item.run is not None:
                run = self.runs[item.run]
                assert item.number in run.items
                assert run.worker == item.worker
        for worker in {run.worker for run in self.runs.values()}:
            mine_runs = [run for run in self.runs.values() if run.worker == worker]
            assert sum(r.priority == "interactive" for r in mine_runs) <= self.slots.interactive
            assert sum(r.priority == "batch" for r in mine_runs) <= self.slots.batch
            assert sum(r.merged for r in mine_runs) <= self.slots.merged

    # ---- within

    def _enqueue(self, item: WorkItem, *, first: bool = False) -> None:
        queue = self.queues[item.priority].setdefault(item.client, deque())
        if first:
            queue.appendleft(item)
        else:
            queue.append(item)
        self.items[item.number] = item
        self.queued_items[item.client] = self.queued_items.get(item.client, 0) + 1
        self.queued_nbytes[item.client] = self.queued_nbytes.get(item.client, 0) + item.nbytes
        self.total_queued_nbytes += item.nbytes
        if item.deadline_at is not None:
            heappush(self._deadlines, (item.deadline_at, item.number))

    def _dequeue(self, item: WorkItem, *, served: bool = True) -> None:
        """Take a queued item out of its queue; a served client goes to the end of the line."""
        queues = self.queues[item.priority]
        queue = queues[item.client]
        queue.remove(item)
        if served or not queue:
            del queues[item.client]
        if served and queue:
            queues[item.client] = queue
        self.queued_items[item.client] -= 1
        self.queued_nbytes[item.client] -= item.nbytes
        self.total_queued_nbytes -= item.nbytes
        if not self.queued_items[item.client]:
            del self.queued_items[item.client], self.queued_nbytes[item.client]

    def _first(self, priority: Priority, wanted: Callable[[WorkItem], bool]) -> WorkItem | None:
        for queue in self.queues[priority].values():
            for item in queue:
                if wanted(item):
                    return item
        return None

    def _companions(self, lead: WorkItem, can_run: Callable[[WorkItem], bool]) -> list[WorkItem]:
        """Waiting items to compute together with `lead`: one of each client in turn."""
        chosen: list[WorkItem] = []
        cost = lead.cost
        while len(chosen) + 1 < self.limits.merged_items:
            room = self.limits.merged_cost - cost
            item = self._first(
                lead.priority,
                lambda it: it.merge_key == lead.merge_key and it.cost <= room and can_run(it),  # noqa: B023 - called at once
            )
            if item is None:
                break
            self._dequeue(item)
            chosen.append(item)
            cost += item.cost
        return chosen

    def _leave_run(self, item: WorkItem) -> None:
        assert item.run is not None
        run = self.runs[item.run]
        run.items.discard(item.number)
        if not run.items:
            del self.runs[run.number]
        del self.items[item.number]
        item.run = item.worker = None

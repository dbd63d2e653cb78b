"""From a request to an answer: cache, queue, model, worker. Pure parts decide, this carries out.

The scheduler says what runs next, residency (through `Placement`) what is loaded where, leases what
is held; here their decisions become messages to workers, and the workers' messages become events
for them. Who asked is an `Owner`: a client's open request or a job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import count

from circuit_protocol import requests as r
from circuit_protocol.errors import (
    Cancelled,
    CircuitError,
    DeadlineExceeded,
    OutOfMemory,
    WorkerDied,
    from_info,
)
from circuit_protocol.tensors import Frame
from circuitd import work
from circuitd.server.admission import Admission
from circuitd.server.alarm import Alarm
from circuitd.server.answer_cache import AnswerCache
from circuitd.server.catalog import Catalog, Located
from circuitd.server.model_waiters import Waiter
from circuitd.server.owner import Owner
from circuitd.server.placement import Placement
from circuitd.server.residency import Residency
from circuitd.server.scheduler import ClientId, Scheduler, WorkItem
from circuitd.server.supervisor import Supervisor, Worker
from circuitd.server.validation import handles_in

log = logging.getLogger(__name__)

#: A job that has cost this many workers their life fails.
MAX_JOB_DEATHS = 3


class Dispatcher:
    """All work for the workers."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        residency: Residency,
        cache: AnswerCache,
        catalog: Catalog,
        device_budget_nbytes: Callable[[int], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scheduler = scheduler
        self.cache = cache
        self.catalog = catalog
        self.clock = clock
        self._device_budget_nbytes = device_budget_nbytes
        self._numbers = count(1)
        self._alarm = Alarm(clock, self._rings)
        #: Who owns each item of the scheduler.
        self.owners: dict[int, Owner] = {}
        self._admission = Admission(catalog, cache, enqueue=self._enqueue, clock=clock)
        self.placement = Placement(residency, cache, clock=clock, on_refused=self._fail_queued)
        #: Called when nothing is left that would be lost at the daemon's end.
        self.on_drained: Callable[[], None] | None = None

    @property
    def residency(self) -> Residency:
        """Which models are in memory, and where."""
        return self.placement.residency

    @property
    def supervisor(self) -> Supervisor:
        """The workers; set before the first of them starts."""
        return self.placement.supervisor

    @supervisor.setter
    def supervisor(self, supervisor: Supervisor) -> None:
        self.placement.supervisor = supervisor

    # ---- requests

    def begin(
        self,
        request: r.Request,
        header: bytes,
        frames: tuple[Frame, ...],
        owner: Owner,
        *,
        client: ClientId,
        job: str | None = None,
        checkpoint_dir: str | None = None,
    ) -> int:
        """Answer `request` from the cache or queue it; returns its number. Raises CircuitError."""
        now = self.clock()
        item = WorkItem(
            number=next(self._numbers),
            client=client,
            request_id=request.id,
            request_type=str(type(request).__struct_config__.tag),
            header=header,
            frames=frames,
            nbytes=len(header) + sum(memoryview(f).nbytes for f in frames),
            deadline_at=None if request.deadline_s is None else now + request.deadline_s,
            job=job,
            checkpoint_dir=checkpoint_dir,
        )
        if isinstance(request, r.Reduce):
            item.segments = (self.cache.leases.use(owner.lessee, request.handle, now),)
        if isinstance(request, r.DescribeModel | r.PackModel | r.UnpackModel):
            self._admission.admit(item, owner, request.model, "float32")
            return item.number
        if not isinstance(request, r.ModelRequest):
            self._enqueue(item, owner, None)
            return item.number
        item.request = request
        item.priority = "batch" if job is not None else request.priority
        item.keep_alive_s = request.keep_alive_s
        item.segments = tuple(
            self.cache.leases.use(owner.lessee, handle, now) for handle in handles_in(request)
        )
        self._admission.admit(item, owner, request.model, request.dtype)
        return item.number

    def stop(self, number: int, error: CircuitError) -> None:
        """End an unfinished item: at once if it waits, at its next step if it runs."""
        if (owner := self._admission.cancel(number)) is not None:
            owner.failed(error)
            return
        item = self.scheduler.items.get(number)
        if item is None:
            return
        match self.scheduler.stop(item):
            case "dropped":
                self._leave_queue(item)
                self.owners.pop(number).failed(error)
            case "stopping":
                reason = "deadline_exceeded" if isinstance(error, DeadlineExceeded) else "cancelled"
                worker = self.placement.workers.get(item.worker or 0)
                if worker is not None:
                    self.supervisor.send(worker, work.CancelWork(work=number, reason=reason))
            case "already":
                pass
        self.pump()

    def load(self, located: Located, device: str | None, waiter: Waiter) -> None:
        """Make a model resident, then call `waiter`. Raises CircuitError."""
        self.placement.load(located, device, waiter)
        self.pump()

    def unload(self, key: work.ModelKey, waiter: Waiter) -> None:
        """Free a resident model as soon as it is idle; `waiter` hears Conflict if it stays."""
        self.placement.unload(key, waiter)

    def pin(self, key: work.ModelKey, pinned: bool) -> bool:
        """Pin or unpin a resident model; whether that changed anything."""
        changed = self.placement.pin(key, pinned)
        self.pump()
        return changed

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued, running or being prepared."""
        return not self.owners and not self._admission.preparing

    @property
    def is_drained(self) -> bool:
        """Whether everything unfinished goes on at the next start."""
        preparing = (owner for owner, _ in self._admission.preparing.values())
        return all(owner.outlives_daemon for owner in (*self.owners.values(), *preparing))

    # ---- what workers say

    def worker_ready(self, worker: Worker, ready: work.Ready) -> None:
        """A worker can be given work."""
        budget = self._device_budget_nbytes(ready.memory_nbytes)
        self.placement.add_worker(worker, ready.device, budget)
        self.pump()

    def worker_lost(self, worker: Worker, reason: str) -> None:
        """A worker is gone: fail the guilty, run the others again, bring the models back."""
        self.placement.workers.pop(worker.number, None)
        suspected, others = self.scheduler.lose_worker(worker.number)
        again: list[WorkItem] = []
        for item in (*suspected, *others):
            error = _why_not_again(item, item in suspected, reason)
            if error is None:
                again.append(item)
            else:
                self._finish_owner(item, error)
        self.placement.lose_worker(worker.number)
        for item in reversed(again):  # the first goes back last, to the very front
            try:
                if item.model is not None and item.request is not None:
                    self.placement.want_again(item.model, item.request.model)
            except CircuitError as error:
                self._finish_owner(item, error)
            else:
                item.answers = 0
                self.scheduler.requeue(item)
                self.owners[item.number].lost_worker()
        self.pump()

    def worker_hopeless(self, device: str, reason: str) -> None:
        """A worker keeps dying as it starts: tell who waits, unless another worker can serve."""
        if self.placement.workers:
            return
        error = WorkerDied(
            f"no worker can be started on {device}",
            found=reason,
            hint="`circuitd logs` tells why",
        )
        for item in list(self.scheduler.queued()):
            if item.job is None:
                self.stop(item.number, error)
        self.placement.give_up_loads(error)

    def worker_said(
        self, worker: Worker, message: work.FromWorker, frames: tuple[Frame, ...]
    ) -> None:
        """An answer, or news of a model."""
        match message:
            case work.Answer():
                self._answered(message, frames, self.clock())
            case work.Loaded():
                self.cache.learn_hash(message.model, message.model_hash)
                self.placement.loaded(message)
                self._ask_cache_again(message.model)
            case work.Resized():
                self.placement.resized(message)
            case work.LoadFailed():
                self.placement.load_failed(message.model, from_info(message.error))
            case work.Unloaded():
                self.placement.unloaded(message.model)
            case _:
                pass
        self.pump()

    # ---- turns

    def pump(self) -> None:
        """Give workers what they can take now; set the alarm for the next deadline or expiry."""
        now = self.clock()
        for worker in self.placement.workers.values():
            while items := self.scheduler.take(worker.number, self._can_run(worker.number), now):
                for item in items:
                    if item.model is not None and item.request is not None:
                        self.residency.use(item.model, now)
                    self.owners[item.number].started()
                message = work.Run(
                    items=tuple(item.for_worker() for item in items), priority=items[0].priority
                )
                frames = [frame for item in items for frame in item.frames]
                self.supervisor.send(worker, message, frames)
        self._alarm.set((self.scheduler.next_deadline(), self.residency.next_expiry()), now)
        if self.on_drained is not None and self.is_drained:
            self.on_drained()

    def close(self) -> None:
        """Stop the clock and what is being prepared."""
        self._alarm.cancel()
        self._admission.close()

    # ---- within: the queue

    def _enqueue(self, item: WorkItem, owner: Owner, located: Located | None) -> None:
        """Queue an item; `located` is the model it has to wait for. Raises CircuitError."""
        self.scheduler.submit(item)
        self.owners[item.number] = owner
        try:
            if located is not None:
                self.placement.want(located)
        except CircuitError:
            self.scheduler.stop(item)
            del self.owners[item.number]
            raise
        self.pump()

    def _leave_queue(self, item: WorkItem) -> None:
        if item.model is not None and item.request is not None:
            self.placement.abandon(item.model)

    def _ask_cache_again(self, key: work.ModelKey) -> None:
        """A model's hash has become known: what waits for the model may have an answer already."""
        for item in [i for i in self.scheduler.queued() if i.model == key and i.question is None]:

            def leave(item: WorkItem = item) -> None:
                self.scheduler.stop(item)
                self._leave_queue(item)
                del self.owners[item.number]

            self._admission.answer_after_all(item, self.owners[item.number], leave)

    # ---- within: answers

    def _answered(self, answer: work.Answer, frames: tuple[Frame, ...], now: float) -> None:
        item = self.scheduler.items.get(answer.work)
        if item is None or item.run is None:
            self.cache.delete(answer.segments)  # nobody waits for them
            return
        owner = self.owners[item.number]
        item.answers += 1
        header, final = answer.header, answer.final
        if answer.segments and (error := self._hold(owner, answer.segments, now)) is not None:
            self.cache.delete(answer.segments)
            if not final:
                self.stop(item.number, error)
                return
            self._end_item(item, now)
            owner.failed(error)
            return
        if not final:
            owner.answered(header, frames, final=False, error=False)
            return
        self._end_item(item, now)
        if item.question is not None and not answer.error:
            description = f"{item.request_type} {item.request.model if item.request else ''}"
            self.cache.keep(item.question, header, frames, answer.segments, description=description)
        owner.answered(header, frames, final=True, error=answer.error)

    def _hold(
        self, owner: Owner, segments: tuple[work.Segment, ...], now: float
    ) -> CircuitError | None:
        """Lease an answer's tensors to its owner; the error if they cannot be held."""
        if not owner.is_waiting:  # nobody would ever release them
            return Cancelled("nobody waits for these tensors any more")
        try:
            gone = self.cache.leases.add(owner.lessee, segments, now)
        except OutOfMemory as error:
            return error
        self.cache.delete(gone)
        return None

    def _end_item(self, item: WorkItem, now: float) -> None:
        self.scheduler.finish(item.number, now)
        del self.owners[item.number]
        if item.model is not None and item.request is not None:
            self.placement.done(item.model, item.keep_alive_s)

    def _finish_owner(self, item: WorkItem, error: CircuitError) -> None:
        self.owners.pop(item.number).failed(error)

    # ---- within: models

    def _can_run(self, worker: int) -> Callable[[WorkItem], bool]:
        def can_run(item: WorkItem) -> bool:
            if item.model is None or item.request is None:
                return True
            model = self.residency.resident(item.model)
            return model is not None and model.worker == worker

        return can_run

    def _fail_queued(self, key: work.ModelKey, error: CircuitError) -> None:
        """A model will not become resident: what is queued for it fails."""
        for item in [i for i in self.scheduler.queued() if i.model == key]:
            if item.request is not None:
                self.scheduler.stop(item)
                self._leave_queue(item)
                self._finish_owner(item, error)

    # ---- within: time

    def _rings(self) -> None:
        now = self.clock()
        for item in self.scheduler.expired(now):
            error = DeadlineExceeded("the request was not done in time", asked=f"{item.request_id}")
            self.stop(item.number, error)
        self.placement.plan()
        self.pump()


def _why_not_again(item: WorkItem, is_suspected: bool, reason: str) -> CircuitError | None:
    """Why an item that lost its worker is not run again; None: it is."""
    if item.stopping:
        return Cancelled("the request was cancelled; its worker was lost meanwhile")
    died = WorkerDied("the worker that ran this request was lost", found=reason)
    if item.job is not None:
        if item.deaths < MAX_JOB_DEATHS:
            return None
        return WorkerDied(f"this job has cost {item.deaths} workers their life", found=reason)
    # The oldest run is the likeliest culprit; what has spoken cannot start over unseen.
    return died if is_suspected or item.answers or item.deaths > 1 else None

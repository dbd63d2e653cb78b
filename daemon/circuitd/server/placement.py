"""Models on workers: what residency decides is carried out, and whoever waits for it is told.

Residency is pure; here its instructions become messages to workers, and what is merely cached makes
room before a model is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from circuit_protocol.errors import CircuitError, Conflict, OutOfMemory
from circuitd import work
from circuitd.server.answer_cache import AnswerCache
from circuitd.server.catalog import Located
from circuitd.server.model_waiters import ModelWaiters, Waiter
from circuitd.server.residency import Residency
from circuitd.server.residents import Instruction, Refused, StartLoad, StartUnload
from circuitd.server.supervisor import Supervisor, Worker


class Placement:
    """All models of all workers that are ready."""

    def __init__(
        self,
        residency: Residency,
        cache: AnswerCache,
        *,
        clock: Callable[[], float],
        on_refused: Callable[[work.ModelKey, CircuitError], None],
    ) -> None:
        """`on_refused(model, error)`: nothing that waits for the model will get it."""
        self.residency = residency
        self.supervisor: Supervisor  # set before the first worker starts
        self.workers: dict[int, Worker] = {}
        self._cache = cache
        self._clock = clock
        self._on_refused = on_refused
        self._loads, self._unloads = ModelWaiters(), ModelWaiters()

    @property
    def used_nbytes(self) -> int:
        """Bytes that count against the budget: models, held tensors, cached answers."""
        self.residency.other_nbytes = self._cache.nbytes
        return self.residency.used_nbytes

    # ---- wishes

    def want(self, located: Located, device: str | None = None) -> None:
        """Somebody needs a model. Raises CircuitError."""
        try:
            self._want(located, device)
        except OutOfMemory:
            # What is merely cached goes before a model is refused.
            freed = self._cache.leases.evict_unleased()
            if not freed:
                raise
            self._cache.delete(freed)
            self._want(located, device)
        self._tell_if_it_stays(located.key)

    def _want(self, located: Located, device: str | None) -> None:
        self.residency.other_nbytes = self._cache.nbytes
        self.carry_out(
            self.residency.want(
                located.key,
                name=located.name,
                nbytes=located.nbytes,
                now=self._clock(),
                device=device,
            )
        )

    def want_again(self, key: work.ModelKey, name: str) -> None:
        """Work that lost its worker needs its model again. Raises CircuitError."""
        wish = self.residency.wishes.get(key)
        if wish is None:
            self.want(Located(key, name, 0))
        else:
            self.want(Located(key, wish.name, wish.nbytes))

    def abandon(self, key: work.ModelKey) -> None:
        """Whoever wanted a model wants it no longer, and has not used it."""
        self.carry_out(self.residency.abandon(key, self._clock()))

    def done(self, key: work.ModelKey, keep_alive_s: float | None) -> None:
        """A run with a model has ended."""
        self.residency.other_nbytes = self._cache.nbytes
        self.carry_out(self.residency.done(key, keep_alive_s, self._clock()))

    # ---- what clients ask for

    def load(self, located: Located, device: str | None, waiter: Waiter) -> None:
        """Make a model resident, then call `waiter`. Raises CircuitError."""
        self.want(located, device)
        if self.residency.resident(located.key) is not None:
            self.abandon(located.key)
            waiter(None)
        else:
            self._loads.add(located.key, waiter)

    def unload(self, key: work.ModelKey, waiter: Waiter) -> None:
        """Free a resident model as soon as it is idle, then call `waiter`: also, with Conflict, if
        somebody wants it again before.
        """
        self._unloads.add(key, waiter)
        self.carry_out(self.residency.unload(key, self._clock()))

    def pin(self, key: work.ModelKey, pinned: bool) -> bool:
        """Pin or unpin a resident model; whether that changed anything."""
        changed = self.residency.pin(key, pinned, self._clock())
        self._tell_if_it_stays(key)
        self.plan()
        return changed

    # ---- what workers say

    def add_worker(self, worker: Worker, device: str, budget_nbytes: int) -> None:
        """A worker is ready, and may fill `budget_nbytes` of its device."""
        self.workers[worker.number] = worker
        self.carry_out(
            self.residency.add_worker(worker.number, device, budget_nbytes, self._clock())
        )

    def loaded(self, report: work.Loaded) -> None:
        """A model is resident."""
        self.carry_out(self.residency.loaded(report, self._clock()))
        self._tell_loads(report.model, None)

    def resized(self, report: work.Resized) -> None:
        """A resident model has grown."""
        self.carry_out(self.residency.resized(report, self._clock()))

    def load_failed(self, key: work.ModelKey, error: CircuitError) -> None:
        """A model could not be loaded."""
        instructions = self.residency.load_failed(key, self._clock())
        self.refuse(key, error)
        self.carry_out(instructions)

    def unloaded(self, key: work.ModelKey) -> None:
        """A model's memory has returned."""
        self.carry_out(self.residency.unloaded(key, self._clock()))
        self._unloads.tell(key)

    def lose_worker(self, worker: int) -> None:
        """A worker is gone, and with it what its models took."""
        self.carry_out(self.residency.lose_worker(worker, self._clock()))
        for key in self._unloads.models():
            if key not in self.residency.models:
                self._unloads.tell(key)

    def give_up_loads(self, error: CircuitError) -> None:
        """No worker will come: whoever waits for a model to be loaded is told."""
        for key in self._loads.models():
            self._tell_loads(key, error)

    # ---- carrying out

    def plan(self) -> None:
        """Do what time has made due."""
        self.carry_out(self.residency.plan(self._clock()))

    def carry_out(self, instructions: list[Instruction]) -> None:
        """Tell workers, and those whose model was refused."""
        for instruction in instructions:
            match instruction:
                case StartLoad(worker, model):
                    self.supervisor.send(self.workers[worker], work.Load(model=model))
                case StartUnload(worker, model):
                    self.supervisor.send(self.workers[worker], work.Unload(model=model))
                case Refused(model, error):
                    self.refuse(model, error)

    def refuse(self, key: work.ModelKey, error: CircuitError) -> None:
        """A model will not become resident: whoever waits for it is told."""
        self._tell_loads(key, error)
        self._on_refused(key, error)

    def _tell_loads(self, key: work.ModelKey, error: CircuitError | None) -> None:
        for _ in range(self._loads.tell(key, error)):
            self.abandon(key)

    def _tell_if_it_stays(self, key: work.ModelKey) -> None:
        """A model may be wanted again: whoever waits for it to go is told."""
        model = self.residency.resident(key)
        if model is not None and not model.leaving:
            error = Conflict(
                "the model stays: it was asked for again before it was idle",
                asked=f"unload {model.name}",
                hint="`circuit status` shows what uses it",
            )
            self._unloads.tell(key, error)

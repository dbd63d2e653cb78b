"""Which models are in memory, where, and until when: loading, keep_alive, pins, eviction.

A pure state machine. Questions and events come in with the time as an argument; what the workers
have to do comes back as instructions. A model that is asked for is first a *wish*; when there is
room it becomes a model that is loading, then resident, then unloading:

    wish ──(StartLoad)──> loading ──(loaded)──> resident ──(StartUnload)──> unloading ──> gone
      └──> Refused           └──(load_failed)──> gone

Each worker's device has a byte budget. It counts the measured size of every model there (an
estimate while it loads) and, in host memory, `other_nbytes`: held tensors and cached results. For a
wish without room, the idle models that were used longest ago are unloaded; a model that is in use
or pinned never is. `keep_alive_s` means what Ollama's does: seconds to stay after the last use, 0
to go at once, negative to stay for ever.
"""

from circuit_protocol.errors import Conflict, NotFound, OutOfMemory, WorkerDied
from circuitd.server.residents import (
    Instruction,
    Model,
    Place,
    Refused,
    StartLoad,
    StartUnload,
    Wish,
)
from circuitd.work import Loaded, ModelKey, Resized

#: How often a worker may die while it loads a model before the model is refused.
MAX_LOAD_DEATHS = 2


class Residency:
    """All models in memory or asked for, over all workers."""

    def __init__(self, keep_alive_s: float) -> None:
        self.keep_alive_s = keep_alive_s
        #: Bytes of held tensors and cached results; they lie in host memory.
        self.other_nbytes = 0
        self.places: dict[int, Place] = {}
        #: In the order they were asked for. A wish may name a model that is still unloading.
        self.wishes: dict[ModelKey, Wish] = {}
        #: Every model that takes memory; each on a worker of `places`.
        self.models: dict[ModelKey, Model] = {}
        #: How many queued requests wait for a model; no entry is zero.
        self.reserved: dict[ModelKey, int] = {}
        #: Requests that found their model resident, that did not, and models unloaded for others.
        self.hits = self.misses = self.evictions = 0

    # ---- workers

    def add_worker(
        self, worker: int, device: str, budget_nbytes: int, now: float
    ) -> list[Instruction]:
        """A worker is ready, and may fill `budget_nbytes` of its device."""
        self.places[worker] = Place(worker, device, budget_nbytes)
        return self.plan(now)

    def lose_worker(self, worker: int, now: float) -> list[Instruction]:
        """A worker died: its models are wished for again, so that they come back."""
        self.places.pop(worker, None)
        refused: list[Instruction] = []
        for model in [m for m in self.models.values() if m.worker == worker]:
            del self.models[model.key]
            deaths = model.deaths + (model.state == "loading")
            is_needless = model.state == "unloading" or model.leaving
            if model.key in self.wishes or (is_needless and model.key not in self.reserved):
                continue
            if deaths >= MAX_LOAD_DEATHS:
                error = WorkerDied(f"loading {model.name} killed its worker {deaths} times")
                refused.append(Refused(model.key, error))
                continue
            self.wishes[model.key] = Wish(
                model.key, model.name, model.nbytes, None, model.keep_alive_s, model.pinned, deaths
            )
        return refused + self.plan(now)

    # ---- requests

    def want(
        self, key: ModelKey, *, name: str, nbytes: int, now: float, device: str | None = None
    ) -> list[Instruction]:
        """A request waits for `key`: reserve it, and have it loaded if it is not there.

        Every `want` is followed by one `use` or one `abandon`. `nbytes` is an estimate for a model
        nobody has loaded. Raises OutOfMemory if it could not fit even after all idle unpinned
        models went, NotFound for a device no worker has, Conflict for a model that is elsewhere.
        """
        model = self.models.get(key)
        if device is not None and self.places:
            self._check_device(device, model)
        if model is not None and model.state != "unloading":
            model.leaving = False
        elif key not in self.wishes:
            wish = Wish(key, name, nbytes, device, self.keep_alive_s)
            self._check_possible(wish)
            self.wishes[key] = wish
            for other in self.models.values():  # an older state of the same files is of no use now
                if other.key.path == key.path and other.key.signature != key.signature:
                    wish.pinned = wish.pinned or other.pinned
                    other.leaving, other.pinned = True, False
        if model is not None and model.state == "resident":
            self.hits += 1
        else:
            self.misses += 1
        self.reserved[key] = self.reserved.get(key, 0) + 1
        return self.plan(now)

    def abandon(self, key: ModelKey, now: float) -> list[Instruction]:
        """A request that waited for `key` waits no longer, and has not used it."""
        self._unreserve(key)
        model = self.models.get(key)
        if model is not None and model.state == "resident" and model.in_use == 0:
            self._start_idling(model, now)
        if key not in self.reserved and key in self.wishes and not self.wishes[key].pinned:
            del self.wishes[key]
        return self.plan(now)

    def use(self, key: ModelKey, now: float) -> None:
        """A request that waited for `key`, which is resident, begins to run."""
        self._unreserve(key)
        model = self.models[key]
        assert model.state == "resident"
        model.in_use += 1
        model.uses += 1
        model.last_used_at = now
        model.expires_at = None

    def done(self, key: ModelKey, keep_alive_s: float | None, now: float) -> list[Instruction]:
        """A run with this model has ended. `keep_alive_s` None leaves what held before."""
        model = self.models.get(key)
        if model is None or model.in_use == 0:
            return []
        model.in_use -= 1
        model.last_used_at = now
        if keep_alive_s is not None:
            model.keep_alive_s = keep_alive_s
        if model.in_use == 0:
            self._start_idling(model, now)
            return self.plan(now)
        return []

    def set_keep_alive(
        self, key: ModelKey, keep_alive_s: float | None, *, pin: bool, now: float
    ) -> None:
        """What models.load asked for beside loading."""
        model = self.models.get(key)
        if model is None:
            return
        model.pinned = model.pinned or pin
        if keep_alive_s is not None:
            model.keep_alive_s = keep_alive_s
        if model.state == "resident" and model.in_use == 0:
            self._start_idling(model, now)

    def pin(self, key: ModelKey, pinned: bool, now: float) -> bool:
        """Exempt a resident model from eviction and keep_alive, or not; whether that is new."""
        model = self.models[key]
        changed = model.pinned != pinned
        model.pinned = pinned
        model.leaving = model.leaving and not pinned
        if not model.in_use:
            self._start_idling(model, now)
        return changed

    def unload(self, key: ModelKey, now: float) -> list[Instruction]:
        """Free a model as soon as nothing runs on it, pinned or not."""
        model = self.models[key]
        model.pinned = False
        model.leaving = True
        return self.plan(now)

    # ---- what workers report

    def loaded(self, report: Loaded, now: float) -> list[Instruction]:
        """A model is resident; its size is now known."""
        model = self.models.get(report.model)
        if model is None or model.state != "loading":
            return []
        model.state = "resident"
        model.nbytes = report.nbytes
        model.model_hash = report.model_hash
        model.block_size, model.vocab_size = report.block_size, report.vocab_size
        model.notes, model.execution = report.notes, report.execution
        model.deaths = 0
        model.last_used_at = now
        self._start_idling(model, now)
        place = self.places[model.worker]
        if self._fixed(place, besides=model) + model.nbytes > place.budget_nbytes:
            model.leaving, model.pinned = True, False
            error = self._too_big(model.name, model.nbytes, place)
            return [Refused(model.key, error), *self.plan(now)]
        return self.plan(now)

    def resized(self, report: Resized, now: float) -> list[Instruction]:
        """A resident model has grown: others may have to go for it."""
        model = self.models.get(report.model)
        if model is None or model.state != "resident":
            return []
        model.nbytes = report.nbytes
        return self.plan(now)

    def load_failed(self, key: ModelKey, now: float) -> list[Instruction]:
        """A model could not be loaded; nothing of it is in memory."""
        self.models.pop(key, None)
        return self.plan(now)

    def unloaded(self, key: ModelKey, now: float) -> list[Instruction]:
        """A model's memory has returned. Requests that still wait for it bring it back."""
        model = self.models.pop(key, None)
        if model is not None and key in self.reserved and key not in self.wishes:
            self.wishes[key] = Wish(key, model.name, model.nbytes, None, model.keep_alive_s)
        return self.plan(now)

    # ---- decisions

    def plan(self, now: float) -> list[Instruction]:
        """What has to be done now: expire, make room, load."""
        instructions: list[Instruction] = []
        for model in self._idle():
            expired = model.expires_at is not None and model.expires_at <= now
            if (model.leaving or expired) and model.key not in self.reserved:
                instructions.append(self._start_unload(model))
        for wish in list(self.wishes.values()):
            if wish.key in self.models:
                continue  # its old memory has to return first
            place = self._place_for(wish)
            if place is None:
                continue
            instructions += self._make_room(wish.nbytes, place)
            if self._free(place) < wish.nbytes:
                continue
            del self.wishes[wish.key]
            self.models[wish.key] = Model(
                key=wish.key,
                name=wish.name,
                worker=place.worker,
                state="loading",
                nbytes=wish.nbytes,
                keep_alive_s=wish.keep_alive_s,
                last_used_at=now,
                pinned=wish.pinned,
                deaths=wish.deaths,
            )
            instructions.append(StartLoad(place.worker, wish.key))
        for place in self.places.values():
            instructions += self._make_room(0, place)
        return instructions

    def next_expiry(self) -> float | None:
        """When `plan` should be called next even if nothing happens."""
        times = [
            m.expires_at
            for m in self._idle()
            if m.expires_at is not None and m.key not in self.reserved
        ]
        return min(times, default=None)

    def resident(self, key: ModelKey) -> Model | None:
        """The model if it is in memory and may be used."""
        model = self.models.get(key)
        return model if model is not None and model.state == "resident" else None

    @property
    def used_nbytes(self) -> int:
        """Bytes that count against the budget."""
        return self.other_nbytes + sum(m.nbytes for m in self.models.values())

    @property
    def budget_nbytes(self) -> int:
        """The budgets of all workers together."""
        return sum(place.budget_nbytes for place in self.places.values())

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts itself."""
        for key, model in self.models.items():
            assert model.key == key
            assert model.worker in self.places, "a model is on a worker that is gone"
            assert model.in_use >= 0
            assert model.state == "resident" or model.in_use == 0
            assert not (model.in_use and model.expires_at is not None), "in use, yet expiring"
            assert not (model.pinned and model.expires_at is not None), "pinned, yet expiring"
            assert not (model.pinned and model.leaving), "pinned, yet leaving"
        for key in self.wishes.keys() & self.models.keys():
            assert self.models[key].state == "unloading", "wished for, yet here"
        assert all(n > 0 for n in self.reserved.values())
        for key in self.reserved:
            assert key in self.models or key in self.wishes, "somebody waits for nothing"

    # ---- within

    def _idle(self) -> list[Model]:
        """Models that could be unloaded, the one used longest ago first."""
        idle = [
            m
            for m in self.models.values()
            if m.state == "resident" and m.in_use == 0 and not m.pinned
        ]
        return sorted(idle, key=lambda m: m.last_used_at)

    def _start_idling(self, model: Model, now: float) -> None:
        stays = model.pinned or model.keep_alive_s < 0
        model.expires_at = None if stays else now + model.keep_alive_s

    def _unreserve(self, key: ModelKey) -> None:
        left = self.reserved.get(key, 0) - 1
        if left > 0:
            self.reserved[key] = left
        else:
            self.reserved.pop(key, None)

    def _start_unload(self, model: Model) -> StartUnload:
        model.state = "unloading"
        model.expires_at = None
        return StartUnload(model.worker, model.key)

    def _free(self, place: Place, *, projected: bool = False) -> int:
        """Bytes free on `place`; `projected` counts what is being unloaded as free."""
        free = place.budget_nbytes - self._other_on(place)
        for model in self.models.values():
            if model.worker == place.worker and not (projected and model.state == "unloading"):
                free -= model.nbytes
        return free

    def _other_on(self, place: Place) -> int:
        return self.other_nbytes if place.device == "cpu" else 0

    def _fixed(self, place: Place, besides: Model | None = None) -> int:
        """Bytes on `place` that no eviction of models can free."""
        return self._other_on(place) + sum(
            m.nbytes
            for m in self.models.values()
            if m.worker == place.worker and m.pinned and m is not besides
        )

    def _place_for(self, wish: Wish) -> Place | None:
        """The worker with the most free memory, on the asked device if one was asked."""
        places = [
            place
            for place in self.places.values()
            if wish.device in (None, place.device)
            and self._fixed(place) + wish.nbytes <= place.budget_nbytes
        ]
        return max(places, key=self._free, default=None)

    def _make_room(self, nbytes: int, place: Place) -> list[Instruction]:
        """Unload idle models, least recently used first, until `nbytes` will fit on `place`."""
        instructions: list[Instruction] = []
        for model in self._idle() if self._free(place, projected=True) < nbytes else ():
            if self._free(place, projected=True) >= nbytes:
                break
            is_fresh = model.key in self.reserved and not model.uses
            if model.worker == place.worker and not is_fresh:
                self.evictions += 1
                instructions.append(self._start_unload(model))
        return instructions

    def _check_device(self, device: str, model: Model | None) -> None:
        devices = {p.device for p in self.places.values()}
        if device not in devices:
            raise NotFound.unknown("device", device, sorted(devices))
        if model is not None and self.places[model.worker].device != device:
            found = self.places[model.worker].device
            hint = "Unload it first"
            raise Conflict("the model is on another device", asked=device, found=found, hint=hint)

    def _check_possible(self, wish: Wish) -> None:
        places = [p for p in self.places.values() if wish.device in (None, p.device)]
        if places and self._place_for(wish) is None:
            largest = max(places, key=lambda p: p.budget_nbytes)
            raise self._too_big(wish.name, wish.nbytes, largest)

    def _too_big(self, name: str, nbytes: int, place: Place) -> OutOfMemory:
        """The refusal, with what would have to go."""
        goers = [
            f"unpin {m.name} ({_mib(m.nbytes)})"
            for m in self.models.values()
            if m.pinned and m.worker == place.worker
        ]
        if other := self._other_on(place):
            goers.append(f"clear held tensors and cached results ({_mib(other)})")
        return OutOfMemory(
            f"{name} does not fit into memory",
            asked=_mib(nbytes),
            found=f"a budget of {_mib(place.budget_nbytes)} on {place.device}",
            hint=("To make room, " + ", or ".join(goers)) if goers else "Raise the memory budget",
        )


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):.1f} MiB"

"""Models in memory: loaded on demand, kept as asked, evicted within a budget, not while in use."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from circuit_protocol.errors import Conflict, NotFound, OutOfMemory
from circuitd.server.residency import Residency
from circuitd.server.residents import Instruction, Refused, StartLoad, StartUnload
from circuitd.work import Loaded, ModelKey, Resized


def key(name: str, signature: str = "1") -> ModelKey:
    return ModelKey(path=f"/{name}", signature=signature)


def report(k: ModelKey, nbytes: int) -> Loaded:
    return Loaded(model=k, model_hash="h", nbytes=nbytes, block_size=8, vocab_size=8)


def one_worker(budget: int = 100, keep_alive_s: float = 10.0) -> Residency:
    r = Residency(keep_alive_s)
    assert r.add_worker(1, "cpu", budget, 0.0) == []
    return r


def want(r: Residency, name: str, nbytes: int = 40, now: float = 0.0) -> list[Instruction]:
    return r.want(key(name), name=name, nbytes=nbytes, now=now)


def make_resident(r: Residency, name: str, nbytes: int = 40, now: float = 0.0) -> None:
    """Load a model, use it once, and let it idle."""
    want(r, name, nbytes, now)
    r.loaded(report(key(name), nbytes), now)
    r.use(key(name), now)
    r.done(key(name), None, now)
    assert r.resident(key(name)) is not None


def test_a_model_is_loaded_once_however_many_ask() -> None:
    r = one_worker()
    assert want(r, "a") == [StartLoad(1, key("a"))]
    assert want(r, "a") == []
    assert r.reserved == {key("a"): 2}


def test_keep_alive_runs_from_the_last_use() -> None:
    r = one_worker(keep_alive_s=10)
    make_resident(r, "a", now=0.0)
    want(r, "a", now=8.0)
    r.use(key("a"), 8.0)
    assert r.next_expiry() is None
    assert r.plan(50.0) == []
    r.done(key("a"), None, 60.0)
    assert r.next_expiry() == 70.0
    assert r.plan(69.9) == []
    assert r.plan(70.0) == [StartUnload(1, key("a"))]
    r.unloaded(key("a"), 70.0)
    assert r.used_nbytes == 0


def test_keep_alive_zero_unloads_at_once_and_negative_never() -> None:
    r = one_worker()
    want(r, "a")
    r.loaded(report(key("a"), 40), 0.0)
    r.use(key("a"), 0.0)
    assert r.done(key("a"), 0.0, 1.0) == [StartUnload(1, key("a"))]
    want(r, "b")
    r.loaded(report(key("b"), 40), 0.0)
    r.use(key("b"), 0.0)
    r.done(key("b"), -1.0, 1.0)
    assert r.plan(1e12) == []


def test_a_model_that_somebody_waits_for_does_not_expire() -> None:
    r = one_worker(keep_alive_s=0)
    want(r, "a")
    assert r.loaded(report(key("a"), 40), 0.0) == []
    assert r.plan(100.0) == []


def test_the_least_recently_used_idle_model_is_evicted_and_its_memory_awaited() -> None:
    r = one_worker()
    make_resident(r, "old", now=1.0)
    make_resident(r, "new", now=2.0)
    assert want(r, "c", now=3.0) == [StartUnload(1, key("old"))]
    assert r.unloaded(key("old"), 4.0) == [StartLoad(1, key("c"))]
    assert r.evictions == 1


def test_a_model_in_use_is_never_evicted_the_wish_waits() -> None:
    r = one_worker()
    make_resident(r, "a", 80)
    want(r, "a")
    r.use(key("a"), 1.0)
    assert want(r, "b") == []
    assert r.done(key("a"), None, 2.0) == [StartUnload(1, key("a"))]
    assert r.unloaded(key("a"), 3.0) == [StartLoad(1, key("b"))]


def test_a_model_that_was_just_loaded_for_somebody_is_used_before_it_is_evicted() -> None:
    r = one_worker()
    want(r, "a", 80)
    assert want(r, "b", 80) == []
    assert r.loaded(report(key("a"), 80), 1.0) == []
    r.use(key("a"), 1.0)
    assert r.done(key("a"), None, 2.0) == [StartUnload(1, key("a"))]


def test_an_evicted_model_that_is_still_wanted_comes_back() -> None:
    r = one_worker()
    make_resident(r, "a", 80)
    want(r, "b", 80, now=1.0)
    assert want(r, "a", 80, now=1.0) == []
    assert r.unloaded(key("a"), 2.0) == [StartLoad(1, key("b"))]
    r.loaded(report(key("b"), 80), 3.0)
    r.use(key("b"), 3.0)
    assert r.done(key("b"), None, 4.0) == [StartUnload(1, key("b"))]
    assert r.unloaded(key("b"), 5.0) == [StartLoad(1, key("a"))]


def test_a_refusal_says_what_would_have_to_go() -> None:
    r = one_worker()
    make_resident(r, "pinned", 60)
    r.pin(key("pinned"), True, 0.0)
    r.other_nbytes = 10
    with pytest.raises(OutOfMemory) as caught:
        want(r, "b", 50)
    assert "unpin pinned" in (caught.value.hint or "")
    assert "cached results" in (caught.value.hint or "")
    r.check_invariants()


def test_held_tensors_and_cached_results_take_from_the_budget() -> None:
    r = one_worker()
    make_resident(r, "a", 60)
    r.other_nbytes = 50
    assert r.plan(1.0) == [StartUnload(1, key("a"))]


def test_a_model_that_has_grown_drives_out_the_least_recently_used() -> None:
    r = one_worker()
    make_resident(r, "a", 40, 0.0)
    make_resident(r, "b", 40, 1.0)
    assert r.resized(Resized(model=key("b"), nbytes=70), 2.0) == [StartUnload(1, key("a"))]
    assert r.used_nbytes == 110
    r.unloaded(key("a"), 3.0)
    assert r.resized(Resized(model=key("a"), nbytes=70), 4.0) == []  # it is gone
    assert r.used_nbytes == 70


def test_a_model_that_measures_more_than_the_budget_is_refused_and_goes() -> None:
    r = one_worker()
    want(r, "a", 40)
    refused, *rest = r.loaded(report(key("a"), 400), 0.0)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, OutOfMemory)
    assert rest == []
    assert r.abandon(key("a"), 0.0) == [StartUnload(1, key("a"))]


def test_models_go_where_most_memory_is_free_or_where_they_were_asked_to() -> None:
    r = Residency(10.0)
    r.add_worker(1, "cuda:0", 100, 0.0)
    r.add_worker(2, "cuda:1", 100, 0.0)
    assert want(r, "a", 40) == [StartLoad(1, key("a"))]
    assert want(r, "b", 40) == [StartLoad(2, key("b"))]
    assert want(r, "c", 30) == [StartLoad(1, key("c"))]
    k = key("d")
    assert r.want(k, name="d", nbytes=20, now=0.0, device="cuda:0") == [StartLoad(1, k)]
    with pytest.raises(Conflict):
        r.want(k, name="d", nbytes=20, now=0.0, device="cuda:1")
    with pytest.raises(NotFound) as caught:
        r.want(key("e"), name="e", nbytes=1, now=0.0, device="cuda:7")
    assert "cuda:0" in caught.value.nearest


def test_a_changed_checkpoint_replaces_what_was_loaded_from_the_same_path() -> None:
    r = one_worker()
    make_resident(r, "a", 30)
    new = key("a", "2")
    instructions = r.want(new, name="a", nbytes=30, now=1.0)
    assert set(instructions) == {StartUnload(1, key("a")), StartLoad(1, new)}


def test_the_models_of_a_lost_worker_come_back_with_their_pins() -> None:
    r = one_worker()
    make_resident(r, "a")
    r.pin(key("a"), True, 0.0)
    want(r, "b")
    assert r.lose_worker(1, 1.0) == []
    again = r.add_worker(2, "cpu", 100, 2.0)
    assert set(again) == {StartLoad(2, key("a")), StartLoad(2, key("b"))}
    r.loaded(report(key("a"), 40), 3.0)
    found = r.resident(key("a"))
    assert found is not None
    assert found.pinned


def test_a_model_that_kills_its_worker_as_it_loads_is_refused_in_the_end() -> None:
    r = one_worker()
    want(r, "bomb")
    assert r.lose_worker(1, 1.0) == []
    r.add_worker(2, "cpu", 100, 2.0)
    (refused,) = r.lose_worker(2, 3.0)
    assert isinstance(refused, Refused)
    r.abandon(key("bomb"), 4.0)
    r.check_invariants()
    assert r.add_worker(3, "cpu", 100, 4.0) == []


def test_a_wish_nobody_has_any_more_is_not_loaded() -> None:
    r = Residency(10.0)
    want(r, "a")
    r.abandon(key("a"), 0.0)
    assert r.add_worker(1, "cpu", 100, 1.0) == []


def test_a_pin_goes_over_to_the_changed_files_of_a_model() -> None:
    r = Residency(keep_alive_s=5)
    r.add_worker(1, "cpu", 100, 0.0)
    assert r.want(key("a"), name="a", nbytes=10, now=0.0) == [StartLoad(1, key("a"))]
    r.loaded(report(key("a"), 10), 1.0)
    r.use(key("a"), 1.0)
    r.done(key("a"), None, 2.0)
    r.pin(key("a"), True, 3.0)
    assert r.want(key("a", "2"), name="a", nbytes=10, now=4.0) == [
        StartUnload(1, key("a")),
        StartLoad(1, key("a", "2")),
    ]
    assert r.models[key("a", "2")].pinned
    r.check_invariants()


class ResidencyMachine(RuleBasedStateMachine):
    """Two workers, four models, anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.r = Residency(5.0)
        self.now = 0.0
        self.waiting: list[ModelKey] = []
        self.running: list[ModelKey] = []
        self.workers = 0
        #: What the workers were told and have not answered yet.
        self.told: list[StartLoad | StartUnload] = []

    def do(self, instructions: list[Instruction]) -> None:
        for one in instructions:
            if isinstance(one, Refused):
                for k in [k for k in self.waiting if k == one.model]:
                    self.waiting.remove(k)
                    self.do(self.r.abandon(k, self.now))
            else:
                model = self.r.models[one.model]
                assert model.in_use == 0
                assert not (isinstance(one, StartUnload) and model.pinned)
                self.told.append(one)

    @rule(budget=st.integers(50, 150))
    def add_worker(self, budget: int) -> None:
        if len(self.r.places) < 2:
            self.workers += 1
            self.do(self.r.add_worker(self.workers, "cpu", budget, self.now))

    @precondition(lambda self: self.r.places)
    @rule(data=st.data())
    def lose_worker(self, data) -> None:
        worker = data.draw(st.sampled_from(sorted(self.r.places)))
        lost = [k for k in self.running if self.r.models[k].worker == worker]
        self.told = [one for one in self.told if one.worker != worker]
        self.do(self.r.lose_worker(worker, self.now))
        for k in lost:
            self.running.remove(k)

    @rule(name=st.sampled_from("abcd"), nbytes=st.integers(10, 60), version=st.sampled_from("12"))
    def want(self, name: str, nbytes: int, version: str) -> None:
        k = key(name, version)
        try:
            instructions = self.r.want(k, name=name, nbytes=nbytes, now=self.now)
        except OutOfMemory:
            return
        self.waiting.append(k)
        self.do(instructions)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), grown=st.integers(0, 60), fails=st.booleans())
    def worker_reports(self, data, grown: int, fails: bool) -> None:
        one = data.draw(st.sampled_from(self.told))
        self.told.remove(one)
        if isinstance(one, StartUnload):
            self.do(self.r.unloaded(one.model, self.now))
        elif fails:
            instructions = self.r.load_failed(one.model, self.now)
            for k in [k for k in self.waiting if k == one.model]:
                self.waiting.remove(k)
                instructions += self.r.abandon(k, self.now)
            self.do(instructions)
        else:
            self.do(self.r.loaded(report(one.model, 10 + grown), self.now))

    @precondition(lambda self: any(self.r.resident(k) for k in self.waiting))
    @rule(data=st.data())
    def use(self, data) -> None:
        k = data.draw(st.sampled_from([k for k in self.waiting if self.r.resident(k)]))
        self.waiting.remove(k)
        self.r.use(k, self.now)
        self.running.append(k)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), keep_alive=st.sampled_from([None, 0.0, 3.0, -1.0]))
    def done(self, data, keep_alive: float | None) -> None:
        k = data.draw(st.sampled_from(self.running))
        self.running.remove(k)
        self.do(self.r.done(k, keep_alive, self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data) -> None:
        k = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(k)
        self.do(self.r.abandon(k, self.now))

    @rule(name=st.sampled_from("abcd"), what=st.sampled_from(["pin", "unpin", "unload"]))
    def manage(self, name: str, what: str) -> None:
        k = key(name)
        if self.r.resident(k) is None:
            return
        if what == "unload":
            self.do(self.r.unload(k, self.now))
        else:
            self.r.pin(k, what == "pin", self.now)
            self.do(self.r.plan(self.now))

    @rule(seconds=st.floats(0.1, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.r.plan(self.now))

    @rule(nbytes=st.integers(0, 40))
    def other_memory(self, nbytes: int) -> None:
        self.r.other_nbytes = nbytes
        self.do(self.r.plan(self.now))

    @invariant()
    def consistent(self) -> None:
        self.r.check_invariants()
        counted = {k: self.waiting.count(k) for k in self.waiting}
        assert self.r.reserved == counted
        for k in self.running:
            assert self.r.models[k].in_use == self.running.count(k)
        told = {one.model for one in self.told}
        moving = {k for k, m in self.r.models.items() if m.state != "resident"}
        assert told == moving, "a model moves and nobody was told"


TestResidencyMachine = ResidencyMachine.TestCase
TestResidencyMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

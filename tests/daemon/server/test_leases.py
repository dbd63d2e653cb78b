"""Held tensors: leased, shared with the result cache, bounded, and gone when nobody needs them."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from circuit_protocol.errors import NotFound, OutOfMemory
from circuitd.server.leases import Leases
from circuitd.work import Segment

A, B = b"a", b"b"


def segment(name: str, nbytes: int = 10) -> Segment:
    return Segment(handle=name, file=name, dtype="U8", shape=(nbytes,), nbytes=nbytes)


def test_a_tensor_dies_with_its_last_lease() -> None:
    leases = Leases(100, 100)
    leases.add(A, [segment("t")], 0.0)
    assert leases.share(B, ["t"], 1.0)
    assert leases.release(A, ["t"]) == (1, [])
    assert leases.release_all(B) == [segment("t")]
    assert leases.nbytes == 0


def test_only_a_leaseholder_can_use_a_handle_and_releasing_again_is_no_error() -> None:
    leases = Leases(100, 100)
    leases.add(A, [segment("t")], 0.0)
    assert leases.use(A, "t", 1.0) == segment("t")
    with pytest.raises(NotFound):
        leases.use(B, "t", 1.0)
    assert leases.release(B, ["t", "nonsense"]) == (0, [])
    assert leases.release(A, ["t", "t"]) == (1, [segment("t")])


def test_what_the_result_cache_keeps_survives_its_leases_until_the_cache_lets_go() -> None:
    leases = Leases(100, 100)
    leases.add(A, [segment("t")], 0.0)
    leases.keep_for_cache([segment("t")])
    assert leases.release_all(A) == []
    assert leases.share(B, ["t"], 1.0)
    assert leases.cache_let_go([segment("t")]) == []
    assert leases.release_all(B) == [segment("t")]


def test_new_tensors_evict_what_nobody_leases_oldest_use_first() -> None:
    leases = Leases(30, 30)
    for n, name in enumerate("xyz"):
        leases.add(A, [segment(name)], float(n))
    leases.keep_for_cache(h.segment for h in leases.held.values())
    leases.share(B, ["x"], 5.0)
    leases.release_all(A)
    assert leases.add(A, [segment("new")], 6.0) == [segment("y")]
    assert set(leases.held) == {"x", "z", "new"}


def test_bounds_of_a_client_and_of_all_are_kept_and_nothing_is_held_on_refusal() -> None:
    leases = Leases(30, 20)
    leases.add(A, [segment("x", 20)], 0.0)
    with pytest.raises(OutOfMemory):
        leases.add(A, [segment("y", 1)], 0.0)
    with pytest.raises(OutOfMemory):
        leases.add(B, [segment("y", 11)], 0.0)
    assert not leases.share(B, ["x", "y"], 0.0)
    assert set(leases.held) == {"x"}
    leases.check_invariants()


class LeasesMachine(RuleBasedStateMachine):
    clients = st.sampled_from([A, B])

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(60, 40)
        self.n = 0
        self.alive: dict[str, Segment] = {}

    def die(self, dead: list[Segment]) -> None:
        for one in dead:
            del self.alive[one.handle]  # KeyError: it died twice, or never lived

    @rule(client=clients, sizes=st.lists(st.integers(0, 30), max_size=3))
    def add(self, client, sizes) -> None:
        new = []
        for nbytes in sizes:
            self.n += 1
            new.append(segment(f"t{self.n}", nbytes))
        try:
            gone = self.leases.add(client, new, self.n)
        except OutOfMemory:
            return
        self.die(gone)
        self.alive.update({s.handle: s for s in new})

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), client=clients, what=st.sampled_from(["share", "release", "keep", "go"]))
    def touch(self, data, client, what) -> None:
        one = self.alive[data.draw(st.sampled_from(sorted(self.alive)))]
        if what == "share":
            self.leases.share(client, [one.handle], self.n)
        elif what == "release":
            self.die(self.leases.release(client, [one.handle])[1])
        elif what == "keep":
            self.leases.keep_for_cache([one])
        else:
            self.die(self.leases.cache_let_go([one]))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data, pinned) -> None:
        self.die(self.leases.pin(data.draw(st.sampled_from(sorted(self.alive))), pinned))

    @rule(client=clients)
    def leave(self, client) -> None:
        self.die(self.leases.release_all(client))

    @rule(nbytes=st.none() | st.integers(0, 50))
    def evict(self, nbytes) -> None:
        self.die(self.leases.evict_unleased(nbytes))

    @invariant()
    def consistent(self) -> None:
        self.leases.check_invariants()
        assert self.leases.held.keys() == self.alive.keys()


TestLeasesMachine = LeasesMachine.TestCase
TestLeasesMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)

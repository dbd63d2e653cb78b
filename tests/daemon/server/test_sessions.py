"""Sessions: one revision per change, stale writers refused, followers known."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from circuit_protocol.errors import Conflict, NotFound, TooLarge
from circuit_protocol.session import SelectedNode, SessionPatch, SessionState
from circuitd.server.sessions import Sessions

A, B = (b"a", "1"), (b"b", "1")


def test_attaching_makes_a_session_unless_told_not_to() -> None:
    s = Sessions()
    with pytest.raises(NotFound):
        s.attach("s", A, create=False)
    assert s.attach("s", A, create=True) == SessionState(name="s")
    assert s.followers("s") == (A,)


def test_a_patch_changes_its_fields_empties_those_that_are_null_and_makes_a_revision() -> None:
    s = Sessions()
    s.attach("s", A, create=True)
    node = SelectedNode(site="0.mlp.post_act", channel=3)
    assert s.update("s", SessionPatch(model="m", node=node), None).revision == 1
    state = s.update("s", SessionPatch(node=None, k=5), 1)
    assert (state.model, state.node, state.k, state.revision) == ("m", None, 5, 2)


def test_a_patch_that_changes_nothing_makes_no_revision() -> None:
    s = Sessions()
    s.attach("s", A, create=True)
    s.update("s", SessionPatch(k=1), None)
    assert s.update("s", SessionPatch(k=1), None).revision == 1


def test_a_stale_revision_is_a_conflict_and_changes_nothing() -> None:
    s = Sessions()
    s.attach("s", A, create=True)
    s.update("s", SessionPatch(k=1), 0)
    with pytest.raises(Conflict) as caught:
        s.update("s", SessionPatch(k=2), 0)
    assert caught.value.found == "revision 1"
    assert s.get("s").k == 1


def test_closing_names_everyone_to_be_told() -> None:
    s = Sessions()
    s.attach("s", A, create=True)
    s.attach("s", B, create=True)
    state, followers = s.close("s")
    assert state.name == "s"
    assert followers == (A, B)
    assert s.detach(A) is None
    with pytest.raises(NotFound):
        s.get("s")


def test_sessions_are_bounded_in_number() -> None:
    s = Sessions(limit=1)
    s.attach("s", A, create=True)
    with pytest.raises(TooLarge):
        s.attach("t", B, create=True)


class SessionsMachine(RuleBasedStateMachine):
    names = st.sampled_from(["s", "t"])
    followers = st.sampled_from([A, B, (b"a", "2")])

    def __init__(self) -> None:
        super().__init__()
        self.s = Sessions(limit=2)
        self.revisions: dict[str, int] = {}

    @rule(name=names, follower=followers, create=st.booleans())
    def attach(self, name, follower, create) -> None:
        if follower in self.s.attached:
            return
        if name not in self.revisions and not create:
            with pytest.raises(NotFound):
                self.s.attach(name, follower, create=create)
            return
        self.revisions.setdefault(name, 0)
        assert self.s.attach(name, follower, create=create).revision == self.revisions[name]

    @rule(name=names, k=st.integers(0, 2), revision=st.none() | st.integers(0, 3))
    def update(self, name, k, revision) -> None:
        if name not in self.revisions:
            return
        before = self.s.get(name)
        if revision not in (None, before.revision):
            with pytest.raises(Conflict):
                self.s.update(name, SessionPatch(k=k), revision)
            return
        after = self.s.update(name, SessionPatch(k=k), revision)
        assert after.k == k
        self.revisions[name] += before.k != k
        assert after.revision == self.revisions[name]

    @rule(name=names)
    def close(self, name) -> None:
        if self.revisions.pop(name, None) is not None:
            self.s.close(name)

    @rule(follower=followers)
    def detach(self, follower) -> None:
        self.s.detach(follower)
        assert follower not in self.s.attached

    @invariant()
    def consistent(self) -> None:
        self.s.check_invariants()
        assert {s.name: s.revision for s in self.s.states()} == self.revisions


TestSessionsMachine = SessionsMachine.TestCase
TestSessionsMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)

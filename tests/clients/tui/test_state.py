"""The scene: events, undo, and what a shared session sees of it."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from circuit_client.switching import (
    NONE_SWITCHED,
    EdgeId,
    HalfId,
    HeadId,
    NodeId,
    Switched,
    as_interventions,
    kept,
    node_set,
    off_nodes,
    read_switched,
)
from circuit_protocol.interventions import Add, Mean, SiteChannels
from circuit_protocol.session import SelectedNode, SessionState
from circuit_protocol.tensors import Handle
from circuit_tui.state import (
    Adopt,
    Choose,
    Event,
    Grow,
    Mend,
    Redo,
    Scene,
    Select,
    Toggle,
    Undo,
    UseKind,
    Write,
    patch_between,
    step,
)

NODES = st.builds(NodeId, st.sampled_from(["0.attn.v", "1.mlp.post_act"]), st.integers(0, 9))
HEADS = st.builds(HeadId, st.integers(0, 3), st.integers(0, 3))
HALVES = st.builds(HalfId, st.integers(0, 3), st.sampled_from(["attn", "mlp"]))
SHARED = st.one_of(NODES, HEADS, HALVES)
PARTS = st.one_of(SHARED, st.builds(EdgeId, NODES, NODES))
EVENTS = st.one_of(
    st.builds(Toggle, st.lists(PARTS, max_size=3).map(tuple)),
    st.builds(Grow, st.lists(NODES, max_size=3).map(tuple)),
    st.builds(UseKind, st.sampled_from(["mean", "zero", "resample", None])),
    st.builds(Mend),
    st.builds(Undo),
    st.builds(Redo),
    st.builds(Select, st.builds(SelectedNode, site=st.just("0.attn.v"), channel=st.integers(0, 3))),
    st.builds(Write, st.text(max_size=5)),
    st.builds(Choose, st.just("m"), st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])),
)


@given(st.lists(EVENTS, max_size=12))
def test_undoing_everything_switched_and_doing_it_again_leads_back(events: list[Event]) -> None:
    scene = Scene()
    for event in events:
        scene = step(scene, event)
    n, after = len(scene.past), scene.switched
    undone = scene
    for _ in range(n):
        undone = step(undone, Undo())
    assert not undone.past
    assert undone.switched == (scene.past[0] if scene.past else after)
    for _ in range(n):
        undone = step(undone, Redo())
    assert undone.switched == after


@given(st.lists(EVENTS, max_size=12), st.lists(EVENTS, max_size=3))
def test_a_patch_says_exactly_what_changed_of_what_is_shared(
    before: list[Event], then: list[Event]
) -> None:
    scene = Scene()
    for event in before:
        scene = step(scene, event)
    changed = scene
    for event in then:
        changed = step(changed, event)
    told = SessionState(
        name="s", model=scene.model, task=scene.task, circuit=scene.circuit, k=scene.k,
        node=scene.node, interventions=scene.interventions, text=scene.text,
    )  # fmt: skip
    patch = patch_between(scene, changed)
    if patch is not None:
        fields = {k: v for k, v in structs.asdict(patch).items() if v is not UNSET}
        assert fields
        told = structs.replace(told, **fields)
    # Whoever follows the session looks at the same, and adopting it changes nothing here.
    follower = step(scene, Adopt(told))
    assert follower.interventions == changed.interventions
    assert (follower.circuit, follower.node, follower.text) == (
        changed.circuit, changed.node, changed.text,
    )  # fmt: skip
    assert step(changed, Adopt(told)) is changed


@given(st.frozensets(SHARED, max_size=6), st.sampled_from(["mean", "zero", "resample"]))
def test_what_is_switched_survives_the_session(off: frozenset, kind: str) -> None:
    switched = Switched(off, kind=None if kind == "mean" else kind)  # pyright: ignore[reportArgumentType]
    read, rest = read_switched(as_interventions(switched))
    assert read.off == off
    assert not rest
    assert not off or read.kind == switched.kind


def test_interventions_of_others_are_passed_on_untouched() -> None:
    steering = Add(
        site="0.resid_mid", vector=Handle(handle="h", dtype="F32", shape=(4,), nbytes=16)
    )
    state = SessionState(
        name="s", revision=3, interventions=(Mean(site="0.attn.v", channels=(3,)), steering)
    )
    scene = step(Scene(), Adopt(state))
    assert scene.switched.off == {NodeId("0.attn.v", 3)}
    assert scene.foreign == (steering,)
    assert steering in step(scene, Toggle((NodeId("0.attn.v", 4),))).interventions


def test_another_circuit_begins_with_everything_on() -> None:
    scene = step(Scene("m", "t", "c"), Toggle((NodeId("0.attn.v", 3),)))
    other = step(scene, Choose("m", "t", "d"))
    assert other.switched == NONE_SWITCHED
    assert not other.past


def test_heads_and_half_blocks_switch_the_nodes_they_hold() -> None:
    nodes = node_set(
        [NodeId("0.attn.q", 17), NodeId("0.attn.act_in", 2), NodeId("0.mlp.act_in", 2)]
    )
    head = Switched(frozenset({HeadId(0, 1)}))
    assert off_nodes(head, nodes, 16) == {NodeId("0.attn.q", 17)}
    assert off_nodes(head, nodes, None) == frozenset()  # heads are unknown without the model
    half = Switched(frozenset({HalfId(0, "attn")}))
    assert kept(half, nodes, 16) == (SiteChannels(site="0.mlp.act_in", channels=(2,)),)

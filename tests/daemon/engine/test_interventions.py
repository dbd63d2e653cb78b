"""Interventions do what their description says, alone, in order, per row, and refuse the rest."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.cuts import Cut
from circuitd.engine.errors import EngineError, InterventionError, PlanError, UnknownSite
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import (
    Add,
    Clamp,
    Freeze,
    Gate,
    Keep,
    Mean,
    Patch,
    Project,
    Resample,
    Scale,
    Set,
    Zero,
)
from circuitd.engine.plan import Gradient, LogitDifference, Plan, Record, TwoTokenLoss
from circuitd.engine.sites import node_sites, site_named, sites
from circuitd.engine.weights import Weights
from small_models import TINY, configs, random_model, random_state, tokens_for

B, T = 3, 6
SITE = "0.attn.q"


@pytest.fixture(scope="module")
def weights():
    return random_model(TINY)


@pytest.fixture(scope="module")
def tokens():
    return tokens_for(TINY, B, T)


def at_site(weights, tokens, *interventions, site=SITE, **plan):
    run = forward(
        weights, tokens, Plan(record=(Record(site),), interventions=interventions, **plan)
    )
    return run.records[site]


def logits(weights, tokens, *interventions):
    return forward(weights, tokens, Plan(interventions=interventions)).logits


def test_each_kind_gives_its_formula(weights, tokens):
    x = at_site(weights, tokens)
    values = torch.linspace(-1, 1, 8)
    other = torch.randn(B, T, 8, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    onto = x @ torch.linalg.pinv(direction) @ direction
    mask = torch.arange(8) % 2 == 0
    gate = torch.linspace(0, 1, 8)
    expected = {
        Zero(SITE): torch.zeros_like(x),
        Mean(SITE, values): values.expand_as(x),
        Set(SITE, 0.5): torch.full_like(x, 0.5),
        Set(SITE, values): values.expand_as(x),
        Scale(SITE, -2.0): -2 * x,
        Add(SITE, values): x + values,
        Project(SITE, direction, keep=True): onto,
        Project(SITE, direction, keep=False): x - onto,
        # A direction given twice spans nothing more.
        Project(SITE, torch.cat([direction, direction[:1]]), keep=True): onto,
        Clamp(SITE, -0.1, 0.2): x.clamp(-0.1, 0.2),
        Clamp(SITE, None, 0.2): x.clamp(max=0.2),
        Patch(SITE, other): other,
        Patch(SITE, other[:1, :1]): other[:1, :1].expand_as(x),
        Resample(SITE, (1, 2, 0)): x[[1, 2, 0]],
        Keep(SITE, mask): x * mask,
        Keep(SITE, mask, values): torch.where(mask, x, values),
        Gate(SITE, gate, other): gate * x + (1 - gate) * other,
    }
    for intervention, value in expected.items():
        torch.testing.assert_close(at_site(weights, tokens, intervention), value)


def test_selections_limit_what_changes(weights, tokens):
    x = at_site(weights, tokens)
    chosen = Set(SITE, 9.0, channels=(1, 3), positions=(0, -1), rows=(2,))
    changed = at_site(weights, tokens, chosen)
    where = torch.zeros_like(x, dtype=torch.bool)
    for position in (0, T - 1):
        where[2, position, [1, 3]] = True
    assert torch.equal(changed == 9.0, where)
    assert torch.equal(changed[~where], x[~where])
    one_head = at_site(weights, tokens, Zero(SITE, heads=(1,), positions=(slice(2, 4),)))
    assert torch.equal(one_head[:, 2:4, 4:], torch.zeros(B, 2, 4))
    assert torch.equal(one_head[:, :2], x[:, :2])
    assert torch.equal(one_head[:, 4:], x[:, 4:])
    assert torch.equal(one_head[..., :4], x[..., :4])
    per_channel = Add(SITE, torch.tensor([1.0, 2.0]), channels=(5, 0))
    difference = at_site(weights, tokens, per_channel) - x
    torch.testing.assert_close(difference[0, 0, [0, 5]], torch.tensor([2.0, 1.0]))


def test_they_compose_in_the_order_of_the_plan(weights, tokens):
    x = at_site(weights, tokens)
    first_add = at_site(weights, tokens, Add(SITE, 1.0), Scale(SITE, 3.0))
    first_scale = at_site(weights, tokens, Scale(SITE, 3.0), Add(SITE, 1.0))
    torch.testing.assert_close(first_add, (x + 1) * 3)
    torch.testing.assert_close(first_scale, x * 3 + 1)
    # Resample takes what the site computed, before the interventions listed ahead of it.
    torch.testing.assert_close(
        at_site(weights, tokens, Zero(SITE), Resample(SITE, (1, 2, 0))), x[[1, 2, 0]]
    )


@given(config=configs(), seed=st.integers(0, 50), data=st.data())
@settings(max_examples=12, deadline=None)
def test_zeroing_a_channel_equals_zeroing_the_weights_that_read_it(config, seed, data):
    # What top-k keeps after the site may not change with the site, so none is used here.
    config = dataclasses.replace(config, afrac=None, afrac_loctypes=())
    state, tokens = random_state(config, seed, torch.float64), tokens_for(config, 2, 5, seed)
    weights = Weights.from_state(config, state, torch.float64)
    layer = data.draw(st.integers(0, config.n_layer - 1))
    reader = data.draw(st.sampled_from(["mlp.c_proj", "mlp.c_fc", "attn.c_attn", "attn.c_proj"]))
    site = {
        "mlp.c_proj": "mlp.post_act",
        "mlp.c_fc": "mlp.act_in",
        "attn.c_attn": "attn.act_in",
        "attn.c_proj": "attn.y",
    }[reader]
    name = f"transformer.h.{layer}.{reader}.weight"
    channel = data.draw(st.integers(0, state[name].shape[1] - 1))
    edited = {**state, name: state[name].clone()}
    edited[name][:, channel] = 0.0
    expected = forward(Weights.from_state(config, edited, torch.float64), tokens).logits
    found = logits(weights, tokens, Zero(f"{layer}.{site}", channels=(channel,)))
    torch.testing.assert_close(found, expected)


@given(config=configs(), seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_keep_everything_changes_nothing_and_gate_01_equals_keep(config, seed):
    weights, tokens = random_model(config, seed), tokens_for(config, 2, 5, seed)
    generator = torch.Generator().manual_seed(seed)
    bare = logits(weights, tokens)
    everything, keeps, gates = [], [], []
    for site in node_sites(config):
        everything.append(Keep(site.name, torch.ones(site.width, dtype=torch.bool)))
        mask = torch.rand(2, site.width, generator=generator) < 0.7
        fill = torch.randn(site.width, generator=generator)
        keeps.append(Keep(site.name, mask, fill))
        gates.append(Gate(site.name, mask.float(), fill))
    assert torch.equal(logits(weights, tokens, *everything), bare)
    assert torch.equal(logits(weights, tokens, *keeps), logits(weights, tokens, *gates))


def test_masks_per_row_equal_separate_runs(weights):
    prompt = tokens_for(TINY, 1, T)
    generator = torch.Generator().manual_seed(0)
    masks = {s.name: torch.rand(5, s.width, generator=generator) < 0.5 for s in node_sites(TINY)}
    fills = {s.name: torch.randn(s.width, generator=generator) for s in node_sites(TINY)}
    together = logits(
        weights, prompt.expand(5, -1), *(Keep(s, m, fills[s]) for s, m in masks.items())
    )
    for row in range(5):
        alone = logits(weights, prompt, *(Keep(s, m[row], fills[s]) for s, m in masks.items()))
        torch.testing.assert_close(together[row], alone[0])


def test_a_gate_learns(tokens):
    weights = random_model(TINY, dtype=torch.float64)
    gate = torch.full((8,), 0.5, dtype=torch.float64, requires_grad=True)
    plan = Plan(interventions=(Gate(SITE, gate),), targets=tokens, logits="last")
    loss = forward(weights, tokens, plan).loss
    assert loss is not None
    (slopes,) = torch.autograd.grad(loss, gate)
    step = 1e-6
    for channel in range(8):
        moved = torch.eye(8, dtype=torch.float64)[channel] * step
        sides = [
            forward(
                weights,
                tokens,
                Plan(interventions=(Gate(SITE, gate.detach() + shift),), targets=tokens),
            ).loss
            for shift in (moved, -moved)
        ]
        torch.testing.assert_close(
            slopes[channel], (sides[0] - sides[1]) / (2 * step), rtol=1e-4, atol=1e-8
        )


def test_freezing_a_norm_makes_what_follows_linear(weights, tokens):
    names = [s.name for s in sites(TINY) if s.kind == "norm_scale"]
    recorded = forward(weights, tokens, Plan(record=tuple(map(Record, names)))).records
    frozen = [Freeze(name, recorded[name]) for name in names]
    torch.testing.assert_close(logits(weights, tokens, *frozen), logits(weights, tokens))
    twice = at_site(weights, tokens, frozen[0], Scale("0.resid_in", 2.0), site="0.attn.act_in")
    torch.testing.assert_close(twice, 2 * at_site(weights, tokens, site="0.attn.act_in"))


def test_a_frozen_pattern_from_another_prompt_is_the_one_used(weights, tokens):
    name = "1.attn.pattern"
    pattern = at_site(weights, tokens, site=name)
    assert pattern.shape == (B, 2, T, T + 1)  # the sink is the last key
    torch.testing.assert_close(
        logits(weights, tokens, Freeze(name, pattern)), logits(weights, tokens)
    )
    turned = pattern[[1, 2, 0]]
    found = at_site(weights, tokens, Freeze(name, turned, heads=(1,)), site="1.attn.y")
    v = at_site(weights, tokens, site="1.attn.v").unflatten(-1, (2, 4)).transpose(1, 2)
    mixed = torch.stack([pattern[:, 0], turned[:, 1]], 1)
    y = (mixed[..., :T] @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, y)
    silent = at_site(weights, tokens, Zero(name, heads=(0,)), site="1.attn.y")
    assert not silent[..., :4].any()


@given(data=st.data(), fill=st.sampled_from([0.0, 1.5]))
@settings(max_examples=15, deadline=None)
def test_a_cut_edge_equals_an_edited_weight(data, fill):
    config = dataclasses.replace(TINY, sink=False)
    state, tokens = random_state(config, 3, torch.float64), tokens_for(config, 2, 5)
    weights = Weights.from_state(config, state, torch.float64)
    matrices = {
        ("attn.act_in", "attn.q"): ("attn.c_attn", 0),
        ("attn.act_in", "attn.k"): ("attn.c_attn", 8),
        ("attn.act_in", "attn.v"): ("attn.c_attn", 16),
        ("attn.v", "attn.resid_delta"): ("attn.c_proj", 0),
        ("mlp.act_in", "mlp.post_act"): ("mlp.c_fc", 0),
        ("mlp.post_act", "mlp.resid_delta"): ("mlp.c_proj", 0),
    }
    (source, target), (matrix, offset) = data.draw(st.sampled_from(list(matrices.items())))
    a = data.draw(st.integers(0, site_named(config, f"1.{source}").width - 1))
    b = data.draw(st.integers(0, site_named(config, f"1.{target}").width - 1))
    name = f"transformer.h.1.{matrix}"
    edited = {key: tensor.clone() for key, tensor in state.items()}
    edited[f"{name}.bias"][offset + b] += fill * edited[f"{name}.weight"][offset + b, a]
    edited[f"{name}.weight"][offset + b, a] = 0.0
    expected = forward(Weights.from_state(config, edited, torch.float64), tokens).logits
    cut = Cut(f"1.{source}", f"1.{target}", a, b, fill)
    torch.testing.assert_close(forward(weights, tokens, Plan(cuts=(cut,))).logits, expected)


@pytest.mark.parametrize(
    ("intervention", "words"),
    [
        (Zero(SITE, channels=(8,)), "channels 0..7"),
        (Zero(SITE, heads=(2,)), "heads 0..1"),
        (Zero("0.mlp.post_act", heads=(0,)), "no heads"),
        (Zero(SITE, positions=(6,)), "positions -6..5"),
        (Zero(SITE, rows=(3,)), "rows 0..2"),
        (Mean(SITE, torch.zeros(7)), r"\[8\]"),
        (Set(SITE, torch.zeros(8), channels=(1,)), r"\[1\]"),
        (Patch(SITE, torch.zeros(2, 6, 8)), "3 or 1, 6 or 1, 8"),
        (Patch(SITE, torch.zeros(1, 3, 8)), "positions within"),
        (Keep(SITE, torch.ones(8)), "bool"),
        (Keep(SITE, torch.ones(2, 8, dtype=torch.bool)), r"\[3, 8\]"),
        (Project(SITE, torch.zeros(8), keep=True), "1 or more, 8"),
        (Resample(SITE, (0, 1)), "3, one for each row"),
        (Resample(SITE, (0, 1, 3)), "source rows 0..2"),
        (Freeze(SITE, torch.zeros(1, 1, 8)), "patch"),
        (Scale("0.attn.pattern", 1.0, channels=(0,)), "no channels"),
        (Add("0.attn.pattern", 1.0), "zero, scale and freeze"),
        (Freeze("0.attn.pattern", torch.zeros(1, 2, 6, 6)), "of shape"),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_what_does_not_fit_is_refused_with_what_is_allowed(weights, tokens, intervention, words):
    with pytest.raises(InterventionError, match=words) as raised:
        forward(weights, tokens, Plan(interventions=(intervention,)))
    assert intervention.site in raised.value.asked
    assert raised.value.hint


def test_values_and_selections_that_never_fit_are_refused_when_made():
    for make in (
        lambda: Set(SITE, float("nan")),
        lambda: Patch(SITE, torch.tensor([[[float("inf")]]])),
        lambda: Clamp(SITE, 1.0, 0.0),
        lambda: Clamp(SITE, None, None),
        lambda: Zero(SITE, channels=(1,), heads=(1,)),
    ):
        with pytest.raises(InterventionError):
            make()


def test_short_rows_cannot_feed_longer_ones(weights, tokens):
    plan = Plan(lengths=torch.tensor([6, 3, 6]), interventions=(Resample(SITE, (1, 1, 2)),))
    with pytest.raises(InterventionError, match="at least as long"):
        forward(weights, tokens, plan)


def test_unknown_sites_offer_the_nearest(weights, tokens):
    with pytest.raises(UnknownSite, match=r"nearest: .*mlp\.post_act"):
        logits(weights, tokens, Zero("0.mlp.postact"))


numbers = st.integers(-3, 12)
tuples = st.none() | st.lists(numbers, max_size=3).map(tuple)
vectors = st.sampled_from([(), (8,), (12,), (3, 8), (3, 6, 8), (1, 6, 12), (2, 8), (1, 1, 1)]).map(
    torch.ones
)
names = st.sampled_from([s.name for s in sites(TINY)] + ["nonsense", "blocks.0.attn.hook_q"])


@st.composite
def interventions(draw):
    kind = draw(
        st.sampled_from(
            [Zero, Mean, Set, Scale, Add, Project, Clamp, Patch, Resample, Keep, Gate, Freeze]
        )
    )
    values = {
        "values": vectors, "value": vectors | st.just(1.0), "factor": st.just(2.0),
        "vector": vectors, "directions": vectors, "keep": st.booleans(), "lo": st.just(-1.0),
        "hi": st.none() | st.just(0.5), "source_rows": st.lists(numbers, max_size=3).map(tuple),
        "mask": vectors.map(lambda v: v > 0), "gate": vectors, "fill": st.none() | vectors,
    }  # fmt: skip
    own = [f.name for f in dataclasses.fields(kind) if f.name in values]
    return kind(
        draw(names),
        **{name: draw(values[name]) for name in own},
        **draw(
            st.sampled_from([{}, {"heads": draw(tuples)}, {"channels": draw(tuples)}]),
        ),
        positions=draw(tuples),
        rows=draw(tuples),
    )


@st.composite
def records(draw):
    return Record(
        draw(names),
        positions=draw(tuples),
        channels=draw(tuples),
        reduce=draw(st.sampled_from([None, "mean", "max_abs", "norm", "top_k", "nonsense"])),
        k=draw(numbers),
        key=str(draw(st.integers())),
    )


@given(
    st.lists(interventions(), max_size=3),
    st.lists(records(), max_size=2),
    st.none() | st.lists(numbers, min_size=3, max_size=3).map(torch.tensor),
    st.none()
    | st.builds(LogitDifference, numbers, numbers, st.none() | numbers)
    | st.builds(TwoTokenLoss, numbers, numbers),
)
@settings(max_examples=80, deadline=None)
def test_random_plans_run_or_fail_with_a_typed_error(changes, recording, lengths, objective):
    weights, tokens = random_model(TINY), tokens_for(TINY, B, T)
    try:
        gradient = None if objective is None else Gradient(objective, ("0.attn.v",))
        plan = Plan(tuple(recording), tuple(changes), gradient=gradient, lengths=lengths)
        run = forward(weights, tokens, plan)
    except EngineError:
        pass
    else:
        assert set(run.records) == {record.name for record in recording}


def test_records_are_cut_and_reduced_in_place(weights, tokens):
    x = at_site(weights, tokens)
    plan = Plan(
        record=(
            Record(SITE, positions=(1, slice(3, 5)), channels=(7, 2), key="slice"),
            Record(SITE, heads=(1,), key="head"),
            Record(SITE, reduce="mean_abs", key="mean_abs"),
            Record(SITE, reduce="norm", key="norm"),
            Record(SITE, reduce="top_k", k=2, channels=(1, 4, 6), key="top"),
            Record("0.attn.pattern", heads=(1,), positions=(-1,), key="pattern"),
        )
    )
    run = forward(weights, tokens, plan)
    assert torch.equal(run.records["slice"], x[:, [1, 3, 4]][..., [7, 2]])
    assert torch.equal(run.records["head"], x[..., 4:])
    torch.testing.assert_close(run.records["mean_abs"], x.abs().mean(1))
    torch.testing.assert_close(run.records["norm"], x.norm(dim=-1))
    assert run.records["pattern"].shape == (B, 1, 1, T + 1)
    indices = run.indices["top"]
    assert set(indices.flatten().tolist()) <= {1, 4, 6}
    assert torch.equal(run.records["top"], x.gather(-1, indices))
    smallest_kept = run.records["top"].abs()[..., -1]
    assert (x[..., [1, 4, 6]].abs().amin(-1) <= smallest_kept).all()
    for wrong in (
        Record(SITE, channels=(8,)),
        Record(SITE, reduce="top_k", k=9),
        Record("0.attn.pattern", reduce="mean"),
        Record("0.resid_in", heads=(0,)),
    ):
        with pytest.raises(PlanError):
            forward(weights, tokens, Plan(record=(wrong,)))

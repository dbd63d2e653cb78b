"""Cached generation equals the uncached run, step by step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.errors import Cancelled, EngineError, PlanError, TokenError
from circuitd.engine.generate import Sampling, generate
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Freeze, Keep, Patch, Resample, Scale, Set
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import sites
from small_models import TINY, configs, random_model, tokens_for


@given(config=configs(), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_tokens_logits_and_records_equal_the_uncached_run(config, seed):
    weights = random_model(config, seed, torch.float64)
    prompt = tokens_for(config, 2, 4, seed)
    names = [s.name for s in sites(config) if s.kind != "pattern"]
    width = config.d_attn
    plan = Plan(
        record=tuple(map(Record, names)),
        interventions=(
            Scale("0.attn.v", -2.0, positions=(1, 5)),
            Set("0.mlp.resid_delta", 0.5, channels=(0,), rows=(1,)),
            Patch("0.attn.k", torch.ones(1, 3, width), positions=(2,)),
            Keep("0.attn.q", torch.arange(width) % 2 == 0),
            Resample("0.attn.y", (1, 0)),
        ),
    )
    steps = list(generate(weights, prompt, 5, plan=plan))
    tokens = torch.cat([prompt, *(step.tokens[:, None] for step in steps)], dim=1)
    whole = forward(weights, tokens[:, :-1], plan)
    for i, step in enumerate(steps):
        assert step.position == 4 + i
        torch.testing.assert_close(step.logits, whole.logits[:, 3 + i])
        assert torch.equal(step.tokens, step.logits.argmax(-1))
    for name in names:
        joined = torch.cat([step.records[name] for step in steps], dim=1)
        torch.testing.assert_close(joined, whole.records[name])


def test_a_growing_pattern_is_recorded_as_it_grows():
    weights, prompt = random_model(TINY), tokens_for(TINY, 1, 3)
    steps = list(generate(weights, prompt, 3, plan=Plan(record=(Record("1.attn.pattern"),))))
    shapes = [tuple(step.records["1.attn.pattern"].shape) for step in steps]
    assert shapes == [(1, 2, 3, 4), (1, 2, 1, 5), (1, 2, 1, 6)]


def test_stop_tokens_end_it_when_every_row_has_one():
    weights, prompt = random_model(TINY), tokens_for(TINY, 2, 3)
    free = [step.tokens for step in generate(weights, prompt, 8)]
    stops = frozenset({int(free[1][0]), int(free[3][1])})
    steps = list(generate(weights, prompt, 8, stop_tokens=stops))
    assert bool(steps[-1].finished.all())
    assert not any(bool(step.finished.all()) for step in steps[:-1])
    assert len(steps) <= 4


def test_it_computes_only_what_is_asked_for_and_stops_when_cancelled():
    weights, prompt = random_model(TINY), tokens_for(TINY, 1, 3)
    stop = False
    steps = generate(weights, prompt, 10, plan=Plan(cancelled=lambda: stop))
    next(steps)
    assert not torch.is_inference_mode_enabled()
    stop = True
    with pytest.raises(Cancelled):
        next(steps)


def test_sampling_is_seeded_and_top_1_is_greedy():
    weights, prompt = random_model(TINY), tokens_for(TINY, 2, 3)

    def drawn(**sampling):
        return [
            step.tokens.tolist()
            for step in generate(weights, prompt, 10, sampling=Sampling(**sampling))
        ]

    assert drawn(temperature=1.0, seed=7) == drawn(temperature=1.0, seed=7)
    assert drawn(temperature=3.0, seed=7) != drawn(temperature=3.0, seed=8)
    assert drawn(temperature=5.0, top_k=1) == drawn()


@pytest.mark.parametrize(
    ("plan", "n_new", "kind"),
    [
        (Plan(), 0, TokenError),
        (Plan(), 15, TokenError),
        (Plan(lengths=torch.tensor([3])), 2, PlanError),
        (Plan(stop_after="0.attn.q"), 2, PlanError),
        (Plan(record=(Record("0.attn.q", positions=(-1,)),)), 2, EngineError),
        (Plan(record=(Record("0.attn.q", reduce="mean"),)), 2, PlanError),
        (Plan(interventions=(Scale("0.attn.q", 2.0, positions=(-1,)),)), 2, EngineError),
        (Plan(interventions=(Patch("0.attn.q", torch.zeros(1, 3, 8)),)), 2, EngineError),
        (Plan(interventions=(Freeze("0.attn.pattern", torch.zeros(1, 2, 3, 4)),)), 2, EngineError),
    ],
)
def test_what_a_step_cannot_serve_is_refused_on_the_call(plan, n_new, kind):
    with pytest.raises(kind):
        generate(random_model(TINY), tokens_for(TINY, 1, 3), n_new, plan=plan)

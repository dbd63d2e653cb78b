"""Any plan on any network: a hypothesis strategy, and what it means that two runs are equal."""

import torch
from hypothesis import strategies as st

from circuitd.engine import interventions as acts
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import sites


@st.composite
def interventions(draw, config, n_rows, n_positions, seed):
    """One intervention of any kind that its site takes, on any selection."""
    site = draw(st.sampled_from(sites(config)))
    random = torch.Generator().manual_seed(seed)

    def values(*shape):
        return torch.randn(shape, generator=random)

    selection = {}
    if draw(st.booleans()):
        selection["positions"] = tuple(draw(st.sets(st.integers(0, n_positions - 1), min_size=1)))
    if draw(st.booleans()):
        selection["rows"] = tuple(draw(st.sets(st.integers(0, n_rows - 1), min_size=1)))
    if site.kind == "pattern":
        return draw(
            st.sampled_from([acts.Zero(site.name, **selection), acts.Scale(site.name, 0.5)])
        )
    width = site.width
    patch = acts.Patch if site.is_activation else acts.Freeze
    makers = [
        lambda: acts.Zero(site.name, **selection),
        lambda: acts.Mean(site.name, values(width), **selection),
        lambda: acts.Set(site.name, 0.7, **selection),
        lambda: acts.Scale(site.name, 1.5, **selection),
        lambda: acts.Add(site.name, values(width), **selection),
        lambda: acts.Clamp(site.name, -0.2, 0.4, **selection),
        lambda: acts.Project(site.name, values(1, width), keep=False, **selection),
        lambda: patch(site.name, values(n_rows, n_positions, width), **selection),
        lambda: acts.Keep(site.name, values(width) > 0, values(width), **selection),
        lambda: acts.Gate(site.name, values(n_rows, width).sigmoid(), None, **selection),
    ]
    return draw(st.sampled_from(makers))()


@st.composite
def plans(draw, config, tokens, seed):
    """A plan without gradients or cuts for `tokens` [B, T], and the rows' lengths."""
    n_rows, n_positions = tokens.shape
    lengths = draw(st.lists(st.integers(1, n_positions), min_size=n_rows, max_size=n_rows))
    targets = torch.where(torch.arange(n_positions) < 2, tokens, -1)
    recorded = draw(st.lists(st.sampled_from(sites(config)), unique=True))
    plan = Plan(
        record=tuple(Record(site.name) for site in recorded),
        interventions=tuple(
            draw(interventions(config, n_rows, n_positions, seed + i))
            for i in range(draw(st.integers(0, 3)))
        ),
        logits=draw(st.sampled_from(["all", "last", "none"])),
        targets=draw(st.sampled_from([None, targets])),
        lengths=draw(st.sampled_from([None, torch.tensor(lengths)])),
    )
    return plan, [n_positions] * n_rows if plan.lengths is None else lengths


def assert_same(found, expected, lengths, n_positions):
    """Equal at every real token; what stands at padding means nothing."""
    lengths = torch.tensor(lengths)
    is_real = torch.arange(n_positions) < lengths[:, None]

    def close(a, b):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    assert found.records.keys() == expected.records.keys()
    for name, value in expected.records.items():
        of_queries = name.endswith("pattern")
        a, b = (x.transpose(1, 2) if of_queries else x for x in (found.records[name], value))
        close(a[is_real], b[is_real])
    if expected.logits is not None:
        by_token = expected.logits.ndim == 3
        close(*((x.logits[is_real] if by_token else x.logits) for x in (found, expected)))
    if expected.loss is not None:
        close(found.loss, expected.loss)
        close(found.token_loss, expected.token_loss)

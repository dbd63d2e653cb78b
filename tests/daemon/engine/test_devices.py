"""A network means the same on every device of the machine, dense or on its nonzeros.

On a machine without a GPU all of it runs on the CPU. With Triton installed there,
`TRITON_INTERPRET=1` has the kernels for CUDA carried out by numpy.
"""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from any_plan import assert_same, plans
from circuitd.engine.attention import attend
from circuitd.engine.config import LOCATIONS
from circuitd.engine.cuts import Cut
from circuitd.engine.generate import generate
from circuitd.engine.gpt import Run, forward
from circuitd.engine.interventions import Gate
from circuitd.engine.plan import Gradient, LogitDifference, Plan, Record
from circuitd.engine.sites import node_sites
from circuitd.engine.sparse.choice import Choice, apply, choose
from circuitd.engine.topk import abs_top_k
from circuitd.engine.weights import Weights
from devices import DEVICES
from small_models import TINY, configs, random_model, random_state, tokens_for

WIDE = dataclasses.replace(
    TINY, block_size=48, n_head=3, d_head=16, d_model=72, d_mlp=160, d_pos_emb=6, afrac=0.25,
    enable_bigram_table=True,
    afrac_loctypes=tuple(place for place in LOCATIONS if not place.startswith("resid")),
)  # fmt: skip
ON_NONZEROS = Choice(((True,) * 4,) * 2)

pytestmark = pytest.mark.parametrize("device", DEVICES)


def on(device, config, seed=0, dtype=torch.float32, density=1.0):
    state = random_state(config, seed)
    drawn = torch.Generator().manual_seed(seed)
    for name, values in state.items():
        if density < 1 and ".h." in name and values.ndim == 2:
            values *= (torch.rand(values.shape, generator=drawn) < density) / density**0.5
    return Weights.from_state(config, state, dtype, device)


def on_cpu(run: Run) -> Run:
    def moved(value):
        if isinstance(value, torch.Tensor):
            return value.detach().float().cpu()
        return {k: moved(v) for k, v in value.items()} if isinstance(value, dict) else value

    return Run(**{f.name: moved(getattr(run, f.name)) for f in dataclasses.fields(run)})


@settings(max_examples=40, deadline=None)
@given(data=st.data(), config=configs(), seed=st.integers(0, 2**16))
def test_any_plan_on_any_network_equals_the_dense_network_on_the_cpu(device, data, config, seed):
    tokens = tokens_for(config, data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12)), seed)
    plan, lengths = data.draw(plans(config, tokens, seed))
    expected = forward(random_model(config, seed), tokens, plan)
    weights = on(device, config, seed)
    if data.draw(st.booleans()):
        weights = apply(weights, Choice(ON_NONZEROS.is_sparse[: config.n_layer]))
    assert_same(on_cpu(forward(weights, tokens, plan)), expected, lengths, tokens.shape[1])


@pytest.mark.parametrize("shape", [(1, 1), (3, 48), (40, 32)])
def test_nonzeros_mean_what_the_dense_matrix_means(device, shape):
    """Few tokens and many, which the kernels for CUDA multiply in two ways."""
    dense = on(device, WIDE, density=0.1)
    sparse = apply(dense, ON_NONZEROS)
    tokens = tokens_for(WIDE, *shape)
    found, expected = forward(sparse, tokens), forward(dense, tokens)
    assert (found.execution, expected.execution) == ("sparse", "dense")
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_gradients_by_gates_are_the_same(device):
    tokens = tokens_for(WIDE, 3, 20)

    def gradients(weights):
        gates = {
            site.name: torch.full((site.width,), 0.7, device=weights.device, requires_grad=True)
            for site in node_sites(WIDE)
        }
        acts = tuple(Gate(name, gate) for name, gate in gates.items())
        plan = Plan(interventions=acts, gradient=Gradient(LogitDifference(1, 2), ("0.attn.v",)))
        run = forward(weights, tokens, plan)
        run.objective.sum().backward()
        by_gate = torch.cat([gate.grad for gate in gates.values()])
        return torch.cat([by_gate.cpu(), run.grads["0.attn.v"].cpu().flatten()])

    dense = on(device, WIDE, density=0.2)
    expected = gradients(on("cpu", WIDE, density=0.2))
    for weights in (dense, apply(dense, ON_NONZEROS)):
        torch.testing.assert_close(gradients(weights), expected, rtol=1e-3, atol=1e-3)


def test_cutting_an_edge_is_the_same_and_makes_no_matrix_dense(device):
    matrix = on("cpu", WIDE, density=0.2).layers[1].mlp_proj
    row, column = (int(i) for i in matrix.nonzero()[5])
    pair = ("1.mlp.post_act", "1.mlp.resid_delta")
    plan = Plan(cuts=(Cut(*pair, column, row, fill=0.5),))
    tokens = tokens_for(WIDE, 2, 9)
    expected = forward(on("cpu", WIDE, density=0.2), tokens, plan).logits
    sparse = apply(on(device, WIDE, density=0.2), ON_NONZEROS)
    found = forward(sparse, tokens, plan)
    torch.testing.assert_close(found.logits.cpu(), expected, rtol=1e-4, atol=1e-4)
    if found.execution == "sparse":
        assert not any(m.is_dense for layer in sparse.layers for m in layer.matrices)


def test_half_precision_stays_close_to_float32(device):
    tokens = tokens_for(WIDE, 2, 30)
    config = dataclasses.replace(WIDE, afrac=None, afrac_loctypes=())  # near-ties are decided anew
    expected = forward(on(device, config, density=0.1), tokens).logits
    half = on(device, config, dtype=torch.bfloat16, density=0.1)
    runs = [forward(half, tokens)]
    if device == "cuda":
        runs.append(forward(apply(half, ON_NONZEROS), tokens))
        assert runs[1].execution == "sparse"
    for run in runs:
        error = (run.logits.float() - expected).norm() / expected.norm()
        assert error < 0.05


@pytest.mark.parametrize("sparse", [False, True])
def test_generation_extends_a_prompt_by_the_same_tokens(device, sparse):
    prompt = tokens_for(WIDE, 2, 7)
    weights = on(device, WIDE, density=0.3)
    if sparse:
        weights = apply(weights, ON_NONZEROS)
    expected = generate(on("cpu", WIDE, density=0.3), prompt, 12)
    for found, wanted in zip(generate(weights, prompt, 12), expected, strict=True):
        assert torch.equal(found.tokens.cpu(), wanted.tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("width", "k"), [(1, 1), (7, 3), (100, 25), (2064, 516), (8192, 100)])
def test_a_selection_is_the_same_bits_everywhere(device, dtype, width, k):
    x = np.random.default_rng(width).standard_normal((37, width)).astype(np.float32)
    x[:12] = np.round(2 * x[:12])  # many ties
    x[12:15] = np.maximum(x[12:15], 1)
    x[15:18] *= x[15:18] > 1  # fewer than k nonzeros
    values = torch.from_numpy(x).to(dtype)
    grad = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    results = []
    for where in ("cpu", device):
        leaf = values.clone().to(where).requires_grad_()
        kept = abs_top_k(leaf, k)
        kept.backward(grad.to(where))
        with torch.inference_mode():
            assert torch.equal(abs_top_k(values.to(where), k), kept)
        results.append((kept.detach().cpu(), leaf.grad.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    if k < width:
        assert torch.equal(results[0][1] != 0, results[1][1] != 0)


@pytest.mark.parametrize("d_head", [4, 16, 40])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(9, 9), (150, 150), (1, 77), (70, 130)])
@pytest.mark.parametrize("has_sink", [False, True])
def test_attention_whose_pattern_nobody_looks_at_is_the_same(
    device, d_head, n_queries, n_keys, has_sink
):
    drawn = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, n, 3, d_head, generator=drawn).transpose(1, 2).to(device)
        for n in (n_queries, n_keys, n_keys)
    )
    sink = torch.randn(3, generator=drawn).to(device) if has_sink else None
    seen = attend(q, k, v, sink, lambda pattern: pattern)
    torch.testing.assert_close(attend(q, k, v, sink, None), seen, rtol=1e-4, atol=1e-5)


def test_attention_takes_more_rows_than_the_short_axes_of_a_grid(device):
    """Of CUDA's launches only the first axis goes beyond 65,535."""
    q, k, v = torch.randn(3, 70_000, 1, 2, 16, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    seen = attend(q, k, v, None, lambda pattern: pattern)
    torch.testing.assert_close(attend(q, k, v, None, None), seen, rtol=1e-4, atol=1e-5)


def test_what_is_recorded_stays_on_the_device(device):
    run = forward(on(device, TINY), tokens_for(TINY, 1, 5), Plan(record=(Record("0.attn.v"),)))
    assert run.records["0.attn.v"].device.type == device


def test_a_shape_that_comes_again_is_computed_the_same(device):
    """On CUDA its second pass is captured, and from then on replayed."""
    dense = on(device, WIDE, density=0.1)
    sparse = apply(dense, ON_NONZEROS)
    prompts = [tokens_for(WIDE, 2, 20, seed) for seed in (0, 1)] + [tokens_for(WIDE, 1, 9)]
    expected = [forward(dense, tokens).logits for tokens in prompts]
    earlier = None
    for which in (0, 1, 0, 1, 2, 2, 2, 0):
        logits = forward(sparse, prompts[which]).logits
        torch.testing.assert_close(logits, expected[which], rtol=1e-4, atol=1e-4)
        if earlier is not None:  # what an earlier pass gave is not written over
            torch.testing.assert_close(earlier[1], expected[earlier[0]], rtol=1e-4, atol=1e-4)
        earlier = (which, logits)


def test_the_choice_is_measured_on_the_device(device, monkeypatch):
    monkeypatch.setattr("circuitd.engine.sparse.choice._MIN_WEIGHTS", 0)
    weights = on(device, WIDE, density=0.02)
    choice = choose(weights)
    assert choice.dense_s > 0
    assert choice.sparse_s > 0
    run = forward(apply(weights, choice), tokens_for(WIDE, 1, 5))
    assert run.execution == ("sparse" if choice.is_sparse else "dense")

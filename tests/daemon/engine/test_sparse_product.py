"""Products by nonzeros mean what dense ones mean: gradients, cut edges and generation included."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.cuts import Cut
from circuitd.engine.generate import generate
from circuitd.engine.gpt import forward
from circuitd.engine.nonzeros import Nonzeros
from circuitd.engine.plan import Gradient, LogitDifference, Plan
from circuitd.engine.sites import node_sites
from circuitd.engine.sparse.choice import Choice, apply
from circuitd.engine.sparse.product import NonzeroProduct
from circuitd.engine.sparse.rows import sort_rows
from circuitd.engine.sparse.threads import Threads
from circuitd.engine.weights import Matrices, Weights
from small_models import TINY, configs, random_model, tokens_for


def product_of(matrix: np.ndarray, n_threads: int) -> NonzeroProduct:
    return NonzeroProduct(matrix.shape, sort_rows(Nonzeros.of(matrix)), Threads(n_threads))


class Always(NonzeroProduct):
    """Also where the matrix is so small that dense is faster."""

    def is_faster(self, n_tokens: int) -> bool:
        return True


def on_products(weights: Weights, n_threads: int = 2) -> Weights:
    threads = Threads(n_threads)

    def changed(layer):
        products = [
            Always(matrix.shape, sort_rows(matrix.nonzeros), threads) for matrix in layer.matrices
        ]
        pairs = zip(layer.matrices, products, strict=True)
        return dataclasses.replace(
            layer, matrices=Matrices(*(m.multiplied_by(p, keeps_dense=True) for m, p in pairs))
        )

    return dataclasses.replace(weights, layers=tuple(map(changed, weights.layers)))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    n_tokens=st.integers(1, 40),
    density=st.floats(0, 1),
    n_threads=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_a_product_and_its_gradient_equal_the_dense_ones(shape, n_tokens, density, n_threads, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal(shape).astype(np.float32)
    matrix[rng.random(shape) >= density] = 0
    product = product_of(matrix, n_threads)
    bias = torch.from_numpy(rng.standard_normal(shape[0]).astype(np.float32))
    x = torch.from_numpy(rng.standard_normal((2, n_tokens, shape[1])).astype(np.float32))
    weight = torch.from_numpy(matrix)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    found, expected = product(ours, bias), F.linear(theirs, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    toward = torch.from_numpy(rng.standard_normal(expected.shape).astype(np.float32))
    found.backward(toward)
    expected.backward(toward)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), config=configs(), seed=st.integers(0, 2**16))
def test_gradients_and_cut_edges_equal_those_of_the_dense_execution(data, config, seed):
    weights, tokens = random_model(config, seed), tokens_for(config, 2, 7, seed)
    wanted = data.draw(
        st.lists(
            st.sampled_from([site.name for site in node_sites(config)]), min_size=1, unique=True
        )
    )
    gradient = Gradient(LogitDifference(0, 1), tuple(wanted))
    cut = Cut("0.mlp.act_in", "0.mlp.post_act", 1, 2, fill=0.3)
    for plan in (Plan(gradient=gradient), Plan(cuts=(cut,)), Plan(gradient=gradient, cuts=(cut,))):
        found, expected = (
            forward(on_products(weights), tokens, plan),
            forward(weights, tokens, plan),
        )
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
        assert found.grads.keys() == expected.grads.keys()
        for site, value in expected.grads.items():
            torch.testing.assert_close(found.grads[site], value, rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(config=configs(), seed=st.integers(0, 2**16))
def test_generation_gives_the_logits_of_the_dense_execution(config, seed):
    weights, tokens = random_model(config, seed), tokens_for(config, 2, 4, seed)
    steps = (generate(network, tokens, 4) for network in (on_products(weights), weights))
    for ours, theirs in zip(*steps, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-5)
        if not torch.equal(ours.tokens, theirs.tokens):
            break  # two logits a rounding apart: from here on the texts differ


def test_results_do_not_depend_on_the_number_of_threads():
    matrix = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    x = torch.randn(9, 200, generator=torch.Generator().manual_seed(0))
    for part in (x, x[:1]):
        runs = [product_of(matrix, n)(part, None) for n in (1, 2, 5)]
        assert all(torch.equal(run, runs[0]) for run in runs)


@pytest.mark.parametrize(
    ("density", "n_tokens", "expected"),
    [(1e-3, 1, True), (1e-3, 2048, True), (5e-2, 1, True), (5e-2, 256, False), (0.5, 1, False)],
)
def test_it_is_used_where_the_dense_product_would_read_far_more(density, n_tokens, expected):
    n = round(density * 2048 * 512)
    flat = np.zeros(2048 * 512, np.float32)
    flat[np.random.default_rng(0).permutation(flat.size)[:n]] = 1
    product = product_of(flat.reshape(2048, 512), 2)
    assert product.is_faster(n_tokens) is expected


def test_a_network_on_nonzeros_needs_no_dense_matrix_for_a_gradient_and_says_what_ran(monkeypatch):
    monkeypatch.setattr(NonzeroProduct, "is_faster", lambda *_: True)
    weights = random_model(TINY)
    packed = dataclasses.replace(
        weights,
        layers=tuple(
            dataclasses.replace(
                layer,
                matrices=Matrices(
                    *(type(m)(m.nonzeros, torch.float32, weights.device) for m in layer.matrices)
                ),
            )
            for layer in weights.layers
        ),
    )
    chosen = apply(packed, Choice(((True,) * 4,) * TINY.n_layer))
    plan = Plan(gradient=Gradient(LogitDifference(0, 1), ("0.mlp.post_act",)))
    tokens = tokens_for(TINY, 1, 5, 0)
    found = forward(chosen, tokens, plan)
    assert found.execution == "sparse products, since a gradient is wanted"
    assert not any(m.is_dense for layer in chosen.layers for m in layer.matrices)
    expected = forward(weights, tokens, plan)
    torch.testing.assert_close(
        found.grads["0.mlp.post_act"], expected.grads["0.mlp.post_act"], rtol=1e-4, atol=1e-5
    )

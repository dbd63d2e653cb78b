"""The sparse kernels compute what the engine computes, forward and backward, gate by gate."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.circuits.gated import Gated
from circuitd.circuits.nodes import node_space
from circuitd.circuits.prompts import ScoredPrompts
from circuitd.engine.config import GPTConfig
from circuitd.engine.sparse.lanes.execute import Blocks, SparseNetwork
from circuitd.engine.sparse.lanes.kernels import activate_with_slope
from circuitd.engine.sparse.lanes.layout import lay_out, why_not
from circuitd.engine.steps import finish
from circuitd.engine.weights import Weights, expected_shapes
from hurried import hurried

BASE = GPTConfig(
    block_size=160, vocab_size=24, n_layer=2, n_head=2, d_head=4, d_model=12, d_mlp=20,
    rms_norm=True, ln_bias=False, tied_unembed=False, sink=True, afrac=0.5,
    afrac_loctypes=(
        "attn_in", "attn_out", "mlp_in", "mlp_out", "mlp_neuron", "attn_q", "attn_k", "attn_v",
    ),
)  # fmt: skip
VARIANTS = {
    "as trained": BASE,
    "no sink, tied": dataclasses.replace(BASE, sink=False, tied_unembed=True),
    "dense activations": dataclasses.replace(BASE, afrac=None),
    "relu, some places": dataclasses.replace(
        BASE, activation_type="relu", afrac_loctypes=("attn_in", "mlp_neuron")
    ),
    "positional channels, bigrams": dataclasses.replace(
        BASE, d_pos_emb=6, enable_bigram_table=True, learnable_bigram_table=True
    ),
    "no biases": dataclasses.replace(BASE, bias=False),
}


def network(config: GPTConfig, seed: int = 0, density: float = 0.4) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(config).items():
        values = torch.randn(shape, generator=generator)
        if name.startswith("transformer.h.") and len(shape) == 2:
            values *= torch.rand(shape, generator=generator) < density
        state[name] = values * (1.0 if name.endswith("weight") and len(shape) == 1 else 0.5)
    return Weights.from_state(config, state)


def prompts_of(config: GPTConfig, lengths: list[int], seed: int) -> ScoredPrompts:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.vocab_size, (len(lengths), max(lengths)))
    answers = np.stack([rng.permutation(config.vocab_size)[:2] for _ in lengths])
    parts = (tokens, np.array(lengths), answers)
    return ScoredPrompts(*map(torch.from_numpy, parts))


def compare(weights: Weights, prompts: ScoredPrompts, gates: torch.Tensor, seed: int) -> None:
    ablated = torch.randn(len(gates), generator=torch.Generator().manual_seed(seed)) / 3
    sparse, dense = Gated(weights, ablated), Gated(weights, ablated, sparse=False)
    assert sparse.execution == "sparse"
    expected = finish(dense.differences(prompts, gates))
    # Few nodes would be compiled instead, see test_compiled; here it is the general kernels' turn.
    general = SparseNetwork(weights).differences(
        Blocks.pack(*_packed(prompts)), gates.numpy(), ablated.numpy()
    )
    torch.testing.assert_close(torch.from_numpy(finish(general)), expected, rtol=1e-4, atol=2e-5)
    found, reference = (
        finish(sparse.gradient(prompts, gates)),
        finish(dense.gradient(prompts, gates)),
    )
    assert found.loss == pytest.approx(reference.loss, rel=1e-5, abs=1e-6)
    scale = float(reference.gradient.abs().max()) + 1e-3
    torch.testing.assert_close(found.gradient, reference.gradient, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_network_it_covers_equals_the_engine(name):
    weights = network(VARIANTS[name])
    n_nodes = node_space(weights.config).n_nodes
    rng = np.random.default_rng(1)
    prompts = prompts_of(weights.config, [7, 1, 12, 12, 3, 9], 2)
    for gates in (
        torch.ones(n_nodes),
        torch.from_numpy((rng.random(n_nodes) < 0.4).astype(np.float32)),
        torch.from_numpy(rng.random(n_nodes).astype(np.float32)),
    ):
        compare(weights, prompts, gates, 3)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_any_prompts_and_masks_equal_the_engine(lengths, share, seed):
    weights = network(BASE, seed=seed % 3)
    n_nodes = node_space(BASE).n_nodes
    gates = torch.from_numpy(
        (np.random.default_rng(seed).random(n_nodes) < share).astype(np.float32)
    )
    compare(weights, prompts_of(BASE, lengths, seed), gates, seed)


def test_a_sequence_longer_than_a_block_of_lanes_equals_the_engine():
    weights = network(BASE)
    prompts = prompts_of(BASE, [150, 20], 0)
    assert [len(block.tokens) for block in Blocks.pack(*_packed(prompts)).blocks] == [160, 128]
    compare(weights, prompts, torch.ones(node_space(BASE).n_nodes), 0)


def test_results_do_not_depend_on_the_number_of_threads():
    weights = network(BASE)
    n_nodes = node_space(BASE).n_nodes
    blocks = Blocks.pack(*_packed(prompts_of(BASE, [30] * 40, 0)))
    ones, zeros = np.ones(n_nodes, np.float32), np.zeros(n_nodes, np.float32)
    runs = [finish(SparseNetwork(weights, n).gradient(blocks, ones, zeros)) for n in (1, 2, 3)]
    for differences, gradient in runs[1:]:
        np.testing.assert_array_equal(differences, runs[0][0])
        np.testing.assert_array_equal(gradient, runs[0][1])


def test_others_may_come_between_after_each_layer_of_a_block_and_change_nothing():
    """Two computations on one network take turns, as the worker's requests do."""
    weights, n_nodes = network(BASE), node_space(BASE).n_nodes
    blocks = Blocks.pack(*_packed(prompts_of(BASE, [30] * 12, 0)))
    ones, zeros = np.ones(n_nodes, np.float32), np.zeros(n_nodes, np.float32)
    half = (np.arange(n_nodes) % 2).astype(np.float32)
    shared = SparseNetwork(weights, 1)
    expected = [finish(shared.gradient(blocks, gates, zeros)) for gates in (ones, half)]
    running = [shared.gradient(blocks, gates, zeros) for gates in (ones, half)]
    found: list[tuple[np.ndarray, np.ndarray] | None] = [None, None]
    n_turns = 0
    with hurried():
        while None in found:
            n_turns += 1
            for i, steps in enumerate(running):
                try:
                    next(steps)
                except StopIteration as end:
                    found[i] = end.value
    assert n_turns >= len(blocks.blocks) * 2 * BASE.n_layer
    for (differences, gradient), its in zip(expected, found, strict=True):
        assert its is not None
        np.testing.assert_array_equal(its[0], differences)
        np.testing.assert_array_equal(its[1], gradient)


def test_gelu_and_its_slope_are_exact_to_float32():
    x = np.linspace(-30, 30, 4096, dtype=np.float32).reshape(32, 128)
    out, slope = x.copy(), np.empty_like(x)
    activate_with_slope(out, True, slope)
    exact = torch.from_numpy(x).double().requires_grad_()
    value = torch.nn.functional.gelu(exact)
    value.sum().backward()
    np.testing.assert_allclose(out, value.detach().numpy(), rtol=1e-6, atol=3e-7)
    assert exact.grad is not None
    np.testing.assert_allclose(slope, exact.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rms_norm": False}, "LayerNorm"),
        ({"residual_activation_type": "relu"}, "residual stream has an activation"),
        ({"afrac_loctypes": ("resid_post_mlp",)}, "AbsTopK acts on its residual stream"),
    ],
)
def test_a_network_that_it_does_not_cover_is_refused_and_runs_densely(change, reason):
    weights = network(dataclasses.replace(BASE, **change))
    assert reason in (why_not(weights) or "")
    with pytest.raises(ValueError, match="sparse kernels cannot run"):
        lay_out(weights)
    gated = Gated(weights, torch.zeros(node_space(weights.config).n_nodes))
    assert gated.execution.startswith("dense, since")
    prompts = prompts_of(weights.config, [5, 8], 0)
    assert len(finish(gated.differences(prompts, torch.ones(gated.space.n_nodes)))) == 2


def _packed(prompts: ScoredPrompts) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    assert prompts.answers is not None
    return prompts.tokens, prompts.lengths, prompts.answers

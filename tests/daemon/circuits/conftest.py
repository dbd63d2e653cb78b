"""Small random networks whose every block weight is sparse, as in the models circuitd is for."""

import pytest
import torch

from circuitd.engine.config import GPTConfig
from circuitd.engine.weights import Weights, expected_shapes


def random_weights(config: GPTConfig, seed: int = 0, density: float = 0.3) -> Weights:
    """Weights drawn from `seed`, block matrices with `density` of their entries not zero."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(config).items():
        tensor = torch.randn(shape, generator=generator) * 0.4
        if name.startswith("transformer.h.") and len(shape) == 2:
            tensor *= torch.rand(shape, generator=generator) < density
        if ".ln_" in name:
            tensor = 1 + 0.1 * tensor
        state[name] = tensor
    return Weights.from_state(config, state)


@pytest.fixture(scope="session")
def config() -> GPTConfig:
    return GPTConfig(
        block_size=24,
        vocab_size=48,
        n_layer=3,
        n_head=4,
        d_head=4,
        d_model=16,
        d_mlp=32,
        rms_norm=True,
        sink=True,
        tied_unembed=False,
        afrac=0.5,
        afrac_loctypes=("attn_in", "attn_q", "attn_k", "attn_v", "mlp_in", "mlp_neuron"),
    )


@pytest.fixture(scope="session")
def weights(config: GPTConfig) -> Weights:
    return random_weights(config)

"""Small random networks, golden files, and a hypothesis strategy for configurations."""

import json
from pathlib import Path

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file

from circuitd.engine.config import LOCATIONS, GPTConfig, parse_config
from circuitd.engine.weights import Weights, expected_shapes, optional_shapes

GOLDEN = Path(__file__).parent / "data" / "golden"
#: The only model whose vectors were computed with the weights beside them; see GOLDEN/README.md.
REPRODUCIBLE = "released_keys"
FOREIGN = (
    "afrac_bigram_rms_sink",
    "catpos_sinusoid",
    "layernorm_gelu_tied",
    "rmsnorm_relu_sink_untied",
)


def golden_config(name):
    return parse_config(json.loads((GOLDEN / name / "beeg_config.json").read_text()))[0]


def golden_state(name):
    return torch.load(GOLDEN / name / "final_model.pt", weights_only=True)


def golden_vectors(name):
    return load_file(GOLDEN / name / "golden.safetensors")


def random_state(config, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = {**expected_shapes(config), **optional_shapes(config)}
    state = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * 0.4
        for name, shape in shapes.items()
    }
    if config.tied_unembed:
        state["lm_head.weight"] = state["transformer.wte.weight"]
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def random_model(config, seed=0, dtype=torch.float32):
    return Weights.from_state(config, random_state(config, seed, dtype), dtype)


def tokens_for(config, n_rows, n_positions, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (n_rows, n_positions), generator=generator)


TINY = GPTConfig(
    block_size=16, vocab_size=23, n_layer=2, n_head=2, d_head=4, d_model=8, d_mlp=12,
    rms_norm=True, tied_unembed=False, sink=True,
)  # fmt: skip


@st.composite
def configs(draw):
    n_head, d_head = draw(st.sampled_from([(1, 4), (2, 2), (2, 4)]))
    rms_norm = draw(st.booleans())
    afrac = draw(st.sampled_from([None, 0.25, 0.5]))
    d_pos_emb = draw(st.sampled_from([None, 4]))
    return GPTConfig(
        block_size=12,
        vocab_size=17,
        n_layer=draw(st.integers(1, 2)),
        n_head=n_head,
        d_head=d_head,
        d_model=8,
        d_mlp=draw(st.sampled_from([8, 12])),
        bias=draw(st.booleans()),
        ln_bias=draw(st.booleans()),
        rms_norm=rms_norm,
        residual_activation_type=draw(st.sampled_from(["identity", "relu"])),
        activation_type=draw(st.sampled_from(["gelu", "relu"])),
        afrac=afrac,
        afrac_loctypes=tuple(draw(st.sets(st.sampled_from(LOCATIONS), min_size=1)))
        if afrac
        else (),
        tied_unembed=draw(st.booleans()),
        enable_bigram_table=draw(st.booleans()),
        d_pos_emb=d_pos_emb,
        sink=draw(st.booleans()),
    )

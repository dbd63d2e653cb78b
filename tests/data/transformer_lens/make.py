"""Write the files of this directory: a small GPT-2 as TransformerLens computes it, all hooks.

    .venv-peers/bin/python tests/data/transformer_lens/make.py

Weights are drawn here, under the published state-dict names, and put into TransformerLens' own
module without any folding or centring. Needs no network, and nothing of circuitd.
"""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformer_lens.model_bridge.sources.native import NativeModel

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Case:
    """A network; the two differ in their norm and in the switches that go with it."""

    name: str
    normalization_type: str
    eps: float
    act_fn: str


# RMSNorm's epsilon is that of torch.nn.functional.rms_norm when none is given, as published.
CASES = (
    Case("layernorm", "LN", 1e-5, "gelu"),
    Case("rmsnorm", "RMS", torch.finfo(torch.float32).eps, "relu"),
)
VOCAB, CONTEXT, N_LAYER, N_HEAD, D_HEAD, D, D_MLP = 23, 10, 2, 2, 6, 16, 20
N_ROWS, N_POSITIONS = 2, 7


def config_of(case):
    """`beeg_config.json` of the network."""
    return {
        "block_size": CONTEXT, "vocab_size": VOCAB, "n_layer": N_LAYER, "n_head": N_HEAD,
        "d_head": D_HEAD, "d_model": D, "d_mlp": D_MLP, "bias": True, "ln_bias": True,
        "rms_norm": case.normalization_type == "RMS", "activation_type": case.act_fn,
        "tied_unembed": False,
    }  # fmt: skip


def weights_of(case, generator):
    """Random tensors under the published names; large enough that every term shows."""

    def normal(*shape, mean=0.0):
        return mean + 0.4 * torch.randn(shape, generator=generator)

    state = {
        "transformer.wte.weight": normal(VOCAB, D),
        "transformer.wpe.weight": normal(CONTEXT, D),
    }
    d_attn = N_HEAD * D_HEAD
    linears = {"attn.c_attn": (3 * d_attn, D), "attn.c_proj": (D, d_attn)}
    linears |= {"mlp.c_fc": (D_MLP, D), "mlp.c_proj": (D, D_MLP)}
    norms = ["transformer.ln_f"]
    for layer in range(N_LAYER):
        h = f"transformer.h.{layer}"
        norms += [f"{h}.ln_1", f"{h}.ln_2"]
        for name, shape in linears.items():
            state[f"{h}.{name}.weight"] = normal(*shape)
            state[f"{h}.{name}.bias"] = normal(shape[0])
    for name in norms:
        state[f"{name}.weight"] = normal(D, mean=1.0)
        if case.normalization_type == "LN":
            state[f"{name}.bias"] = normal(D)
    state["lm_head.weight"] = normal(VOCAB, D)
    return state


def native_names(state):
    """The same tensors under the names of TransformerLens' module, which splits q, k and v."""
    renamed = {}
    places = {
        "transformer.wte": "tok_embed", "transformer.wpe": "pos", "transformer.h": "layers",
        "transformer.ln_f": "ln_out", "lm_head": "head", "ln_1": "ln1", "ln_2": "ln2",
        "attn.c_proj": "attn.o", "mlp.c_fc": "mlp.fc_in", "mlp.c_proj": "mlp.fc_out",
    }  # fmt: skip
    for name, value in state.items():
        for published, native in places.items():
            name = name.replace(published, native)
        if "c_attn" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                renamed[name.replace("c_attn", part)] = rows
        else:
            renamed[name] = value
    return renamed


def make(case):
    """One file: `tokens`, `logits`, `weights.<published name>` and `hook.<their name>`."""
    generator = torch.Generator().manual_seed(20)
    state = weights_of(case, generator)
    tokens = torch.randint(VOCAB, (N_ROWS, N_POSITIONS), generator=generator)
    tl_config = TransformerBridgeConfig(
        d_model=D, d_head=D_HEAD, n_layers=N_LAYER, n_ctx=CONTEXT, n_heads=N_HEAD, d_vocab=VOCAB,
        d_mlp=D_MLP, act_fn=case.act_fn, normalization_type=case.normalization_type, eps=case.eps,
        positional_embedding_type="standard",
    )  # fmt: skip
    model = NativeModel(tl_config)
    model.load_state_dict(native_names(state))
    bridge = build_bridge_from_module(model, "TransformerLensNative", tl_config=tl_config)
    with torch.no_grad():
        logits, cache = bridge.eval().run_with_cache(tokens)
    tensors = {"tokens": tokens, "logits": logits}
    tensors |= {f"weights.{name}": value for name, value in state.items()}
    tensors |= {f"hook.{name}": value for name, value in cache.items()}
    # A tensor has several names in TransformerLens; a file may not hold shared memory.
    tensors = {name: value.clone().contiguous() for name, value in tensors.items()}
    packages = ("transformer_lens", "torch")
    metadata = {
        "config": json.dumps(config_of(case)),
        "versions": json.dumps({package: version(package) for package in packages}),
    }
    save_file(tensors, HERE / f"{case.name}.safetensors", metadata)


if __name__ == "__main__":
    for case in CASES:
        make(case)

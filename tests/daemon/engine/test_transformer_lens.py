"""Every TransformerLens name we accept means, number for number, what it means there."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from circuitd.engine.aliases import alias_table
from circuitd.engine.config import GPTConfig, parse_config
from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import select, site_named, sites, sites_by_name
from circuitd.engine.weights import Weights

RECORDINGS = Path(__file__).parents[2] / "data" / "transformer_lens"
CASES = ("layernorm", "rmsnorm")
#: float32 sums in another order, relative to the largest entry.
TOLERANCE = 2e-6


class Recording:
    """What TransformerLens computed with a network, and the same network here."""

    def __init__(self, name):
        with safe_open(RECORDINGS / f"{name}.safetensors", framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.config, unknown = parse_config(json.loads(file.metadata()["config"]))
        assert unknown == ()
        self.tokens, self.logits = tensors.pop("tokens"), tensors.pop("logits")
        self.hooks = _below("hook.", tensors)
        self.weights = Weights.from_state(self.config, _below("weights.", tensors))


def _below(prefix, tensors):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


RECORDED = {name: Recording(name) for name in CASES}
ALIASES = [(name, alias) for name in CASES for alias in alias_table(RECORDED[name].config)]


def close(found, expected):
    assert found.shape == expected.shape
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCE, f"relative error {float(error):.2e}"


def as_theirs(recorded, relation, n_head):
    """Our value in their form, as the alias' relation says."""
    if relation == "heads":
        return recorded.unflatten(-1, (n_head, -1))
    return recorded.reciprocal() if relation == "reciprocal" else recorded


@pytest.mark.parametrize("name", CASES)
def test_logits_are_theirs(name):
    recording = RECORDED[name]
    close(forward(recording.weights, recording.tokens).logits, recording.logits)


@pytest.mark.parametrize(("name", "alias"), ALIASES, ids="-".join)
def test_an_alias_records_what_transformer_lens_caches_under_it(name, alias):
    recording = RECORDED[name]
    config, meant = recording.config, alias_table(recording.config)[alias]
    site = site_named(config, meant.site)
    assert select(config, alias) == (site.name,)
    # A reciprocal is refused as a place, so it is asked for by our name.
    asked = site.name if meant.relation == "reciprocal" else alias
    run = forward(recording.weights, recording.tokens, Plan(record=(Record(asked),)))
    found = as_theirs(run.records[asked], meant.relation, config.n_head)
    close(found, recording.hooks[alias])


def test_no_network_has_an_alias_that_was_not_checked():
    """Aliases depend on the depth, and on switches that can only take some away."""
    for switches in (
        {},
        {"rms_norm": True, "sink": True, "residual_activation_type": "relu"},
        {"d_pos_emb": 4, "enable_bigram_table": True, "tied_unembed": True, "bias": False},
        {"afrac": 0.25},
    ):
        config = GPTConfig(n_layer=2, n_head=2, d_model=16, **switches)
        for name in CASES:
            assert set(alias_table(config)) <= {alias for case, alias in ALIASES if case == name}


@pytest.mark.parametrize("name", CASES)
def test_every_site_has_an_alias(name):
    config = RECORDED[name].config
    reached = {alias.site for alias in alias_table(config).values()}
    assert reached == set(sites_by_name(config))
    assert len(reached) == len(sites(config))


@pytest.mark.parametrize("name", CASES)
def test_hook_normalized_is_no_alias_because_gain_and_bias_are_missing_there(name):
    recording = RECORDED[name]
    run = forward(recording.weights, recording.tokens, Plan(record=(Record("0.attn.act_in"),)))
    theirs = recording.hooks["blocks.0.ln1.hook_normalized"]
    assert (run.records["0.attn.act_in"] - theirs).abs().max() > 0.1
    norm = recording.weights.layers[0].ln_1
    bias = torch.zeros(()) if norm.bias is None else norm.bias
    close(run.records["0.attn.act_in"], theirs * norm.gain + bias)
    assert "blocks.0.ln1.hook_normalized" not in alias_table(recording.config)

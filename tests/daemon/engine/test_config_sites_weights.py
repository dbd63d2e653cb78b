"""Configurations, site names and weights: what is read, and what is refused by name."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitd.engine.aliases import alias_of
from circuitd.engine.config import GPTConfig, parse_config
from circuitd.engine.device import dtype_named, memory, pick_device
from circuitd.engine.errors import ConfigError, DeviceError, UnknownSite, WeightsError
from circuitd.engine.safe_regex import compile_safe
from circuitd.engine.sites import node_sites, select, site_named, sites
from circuitd.engine.topk import abs_top_k
from circuitd.engine.weights import Weights
from small_models import GOLDEN, TINY, configs, golden_config, random_state


def test_released_configuration_loads_and_unknown_keys_are_reported():
    mapping = json.loads((GOLDEN / "released_keys" / "beeg_config.json").read_text())
    config, unknown = parse_config(mapping)
    assert unknown == ()
    assert (config.d_pos_emb, config.afrac, config.sink) == (16, 0.25, True)
    assert parse_config(config.to_json())[0] == config
    misspelt = {**mapping, "n_layers": 3, "sinks": True}
    assert parse_config(misspelt)[1] == ("n_layers", "sinks")


def test_defaults_and_legacy_spellings():
    config, unknown = parse_config({})
    assert (config.d_head, config.d_mlp, config.block_size, config.vocab_size) == (
        64, 3072, 1024, 50304,
    )  # fmt: skip
    assert unknown == ()
    assert parse_config({"n_mlp": 77, "use_tied_aux_matrix": False})[0].d_mlp == 77
    assert not config.sink


@given(configs())
@settings(max_examples=30, deadline=None)
def test_json_round_trip(config):
    assert parse_config(json.loads(json.dumps(config.to_json()))) == (config, ())


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        ({"n_head": 7}, "n_head=7"),
        ({"n_layer": 0}, "n_layer=0"),
        ({"n_layer": "2"}, "n_layer='2'"),
        ({"n_layer": True}, "n_layer=True"),
        ({"rms_norm": 1}, "rms_norm=1"),
        ({"vocab_size": None}, "vocab_size is null"),
        ({"afrac": 1.5}, "afrac=1.5"),
        ({"afrac": 1e-4}, "keeps no entry"),
        ({"afrac_loctypes": "attn_inn"}, "attn_inn"),
        ({"activation_type": "silu"}, "silu"),
        ({"sinusoidal_cat_pos_emb": True}, "d_pos_emb"),
        ({"use_tied_aux_matrix": True}, "use_tied_aux_matrix"),
        ({"n_mlp": 3, "d_mlp": 4}, "contradicts"),
    ],
)
def test_impossible_configurations_name_their_fields(mapping, named):
    with pytest.raises(ConfigError, match=named):
        parse_config(mapping)


def test_sites_in_forward_order_and_the_number_of_nodes():
    names = [site.name for site in sites(TINY) if site.layer == 0]
    assert names == [
        "0.resid_in", "0.attn.norm_scale", "0.attn.act_in", "0.attn.k", "0.attn.q", "0.attn.v",
        "0.attn.pattern", "0.attn.y", "0.attn.resid_delta", "0.resid_mid", "0.mlp.norm_scale",
        "0.mlp.act_in", "0.mlp.post_act", "0.mlp.resid_delta",
    ]  # fmt: skip
    csp_yolo1 = GPTConfig(n_layer=12, d_model=1024, n_head=128, d_head=8, d_mlp=4096)
    assert sum(site.width for site in node_sites(csp_yolo1)) == 136_192
    assert site_named(golden_config("released_keys"), "0.mlp.act_in").width == 64 + 16


def test_selectors():
    assert select(TINY, "1.attn.q") == ("1.attn.q",)
    assert select(TINY, "*.mlp.post_act") == ("0.mlp.post_act", "1.mlp.post_act")
    assert select(TINY, r"re:1\.attn\.[qk]") == ("1.attn.k", "1.attn.q")
    assert select(TINY, "blocks.1.attn.hook_q") == ("1.attn.q",)
    assert select(TINY, "blocks.*.hook_resid_post") == ("1.resid_in", "final_resid")
    assert select(TINY, "ln_final.hook_scale") == ("final_norm_scale",)
    with pytest.raises(UnknownSite, match=r"nearest: 1\.attn\.q"):
        select(TINY, "1.atn.q")
    for nothing in (r"re:attn", "9.*", "", "blocks.9.attn.hook_q"):
        with pytest.raises(UnknownSite):
            select(TINY, nothing)


def test_aliases_whose_numbers_differ_are_not_taken_for_ours():
    assert alias_of(TINY, "blocks.0.ln1.hook_normalized") is None  # before gain and bias there
    alias = alias_of(TINY, "blocks.0.ln1.hook_out")
    assert alias is not None
    assert alias.site == "0.attn.act_in"
    for config in (
        dataclasses.replace(TINY, d_pos_emb=4),
        dataclasses.replace(TINY, afrac=0.25, afrac_loctypes=("attn_in",)),
    ):
        assert alias_of(config, "blocks.0.ln1.hook_out") is None
    with pytest.raises(UnknownSite, match="1 / 0"):
        site_named(TINY, "blocks.0.ln1.hook_scale")


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+b",
        "(a|a)*b",
        "((a?))*",
        "(.*)(.*)(.*)(.*)x",
        "(a)\\1",
        "(?=a)",
        "(",
        "x" * 201,
        "a{2}{3}+",
    ],
)
def test_regular_expressions_that_could_hang_are_refused(expression):
    with pytest.raises(UnknownSite):
        compile_safe(expression)


def test_weights_name_everything_that_is_wrong():
    state = random_state(TINY)
    del state["transformer.ln_f.weight"], state["transformer.h.1.attn.attn_imp.sink_logit"]
    state["transformer.extra"] = torch.zeros(1)
    state["lm_head.weight"] = torch.zeros(3, 8)
    with pytest.raises(WeightsError) as raised:
        Weights.from_state(TINY, state)
    for word in ("transformer.ln_f.weight", "1.attn.attn_imp.sink_logit", "transformer.extra",
                 "lm_head.weight is (3, 8) instead of (23, 8)"):  # fmt: skip
        assert word in str(raised.value)
    with_nan = random_state(TINY)
    with_nan["transformer.h.0.mlp.c_fc.weight"][0, 0] = float("nan")
    with pytest.raises(
        WeightsError, match=r"NaN or infinity in transformer\.h\.0\.mlp\.c_fc\.weight"
    ):
        Weights.from_state(TINY, with_nan)
    tied = dataclasses.replace(TINY, tied_unembed=True)
    untied = {**random_state(tied), "lm_head.weight": torch.zeros(23, 8)}
    with pytest.raises(WeightsError, match="tied"):
        Weights.from_state(tied, untied)
    absent = random_state(TINY)
    del absent["final_logits_bias"]
    absent["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4)  # the old mask buffer
    assert Weights.from_state(TINY, absent).final_logits_bias is None


rows = st.lists(st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0]), min_size=6, max_size=6)


@given(st.lists(rows, min_size=1, max_size=5), st.integers(1, 6), st.booleans())
@settings(max_examples=80, deadline=None)
def test_top_k_keeps_exactly_k_and_the_lowest_index_of_a_tie(values, k, differentiate):
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x = torch.tensor(values, dtype=dtype, requires_grad=differentiate)
        y = abs_top_k(x, k)
        expected = np.zeros((len(values), 6))
        kept = np.zeros((len(values), 6))
        for i, row in enumerate(values):
            for channel in sorted(range(6), key=lambda c: (-abs(row[c]), c))[:k]:
                expected[i, channel] = row[channel]
                kept[i, channel] = 1.0
        np.testing.assert_array_equal(y.detach().float().numpy(), expected)
        if differentiate:
            (gradient,) = torch.autograd.grad(y.sum(), x)
            np.testing.assert_array_equal(gradient.float().numpy(), kept)


def test_errors_survive_pickling_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError("a", "b", "c")))  # noqa: S301 - our own bytes
    assert (type(error), error.asked, error.found, error.hint) == (ConfigError, "a", "b", "c")


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert memory(torch.device("cpu")).held_nbytes > 0
    assert dtype_named("bfloat16") == torch.bfloat16
    for wrong in ("gpu9", "cuda:99"):
        with pytest.raises(DeviceError):
            pick_device(wrong)
    with pytest.raises(DeviceError):
        dtype_named("int8")

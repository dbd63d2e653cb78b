"""TransformerLens hook names accepted for our sites, with what has to be done to the numbers.

| TransformerLens | here | numbers |
|---|---|---|
| blocks.L.hook_resid_pre | L.resid_in | equal |
| blocks.L.hook_resid_mid | L.resid_mid | equal |
| blocks.L.hook_resid_post | (L+1).resid_in, after the last layer final_resid | equal |
| blocks.L.hook_attn_out | L.attn.resid_delta | equal |
| blocks.L.hook_mlp_out | L.mlp.resid_delta | equal |
| blocks.L.attn.hook_q, hook_k, hook_v | L.attn.q, k, v | heads: theirs [.., head, d_head] |
| blocks.L.attn.hook_z | L.attn.y | heads |
| blocks.L.attn.hook_pattern | L.attn.pattern | equal; ours has the sink as one more last key |
| blocks.L.mlp.hook_post | L.mlp.post_act | equal |
| blocks.L.ln1.hook_out, ln2 | L.attn.act_in, L.mlp.act_in | equal; see below |
| blocks.L.ln1.hook_scale, ln2; ln_final.hook_scale | norm_scale | reciprocal: theirs divides |

The names are TransformerLens 4's; tests/data/transformer_lens holds its numbers, and every alias is
checked against them. `hook_out` of a norm is an alias only where act_in is the norm's output:
without positional channels and activation sparsity. `hook_normalized` is none: version 4 takes it
before the norm's gain and bias, earlier versions took LayerNorm's after them. There are no
near-enough matches.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from circuitd.engine.config import GPTConfig


@dataclass(frozen=True)
class Alias:
    """Our site for a foreign name, and how our numbers relate to what that name means there."""

    site: str
    relation: Literal["equal", "heads", "reciprocal"] = "equal"


@functools.lru_cache(maxsize=64)
def alias_table(config: GPTConfig) -> MappingProxyType[str, Alias]:
    """Every accepted TransformerLens name of this network."""
    table: dict[str, Alias] = {}
    for layer in range(config.n_layer):
        theirs = f"blocks.{layer}"
        last = layer + 1 == config.n_layer
        table[f"{theirs}.hook_resid_pre"] = Alias(f"{layer}.resid_in")
        table[f"{theirs}.ln1.hook_scale"] = Alias(f"{layer}.attn.norm_scale", "reciprocal")
        if _is_norm_output(config, "attn_in"):
            table[f"{theirs}.ln1.hook_out"] = Alias(f"{layer}.attn.act_in")
        for kind in ("k", "q", "v"):
            table[f"{theirs}.attn.hook_{kind}"] = Alias(f"{layer}.attn.{kind}", "heads")
        table[f"{theirs}.attn.hook_pattern"] = Alias(f"{layer}.attn.pattern")
        table[f"{theirs}.attn.hook_z"] = Alias(f"{layer}.attn.y", "heads")
        table[f"{theirs}.hook_attn_out"] = Alias(f"{layer}.attn.resid_delta")
        table[f"{theirs}.hook_resid_mid"] = Alias(f"{layer}.resid_mid")
        table[f"{theirs}.ln2.hook_scale"] = Alias(f"{layer}.mlp.norm_scale", "reciprocal")
        if _is_norm_output(config, "mlp_in"):
            table[f"{theirs}.ln2.hook_out"] = Alias(f"{layer}.mlp.act_in")
        table[f"{theirs}.mlp.hook_post"] = Alias(f"{layer}.mlp.post_act")
        table[f"{theirs}.hook_mlp_out"] = Alias(f"{layer}.mlp.resid_delta")
        after = "final_resid" if last else f"{layer + 1}.resid_in"
        table[f"{theirs}.hook_resid_post"] = Alias(after)
    table["ln_final.hook_scale"] = Alias("final_norm_scale", "reciprocal")
    return MappingProxyType(table)


def alias_of(config: GPTConfig, name: str) -> Alias | None:
    """The alias for a TransformerLens name, or None when it has none in this network."""
    return alias_table(config).get(name)


def _is_norm_output(config: GPTConfig, location: Literal["attn_in", "mlp_in"]) -> bool:
    return config.d_pos_emb is None and config.kept(location) is None

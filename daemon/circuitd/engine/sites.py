"""Sites: the named places of the forward pass, in the order in which it reaches them.

Per layer `l`: `l.resid_in`, `l.attn.norm_scale`, `l.attn.act_in`, `l.attn.k`, `l.attn.q`,
`l.attn.v`, `l.attn.pattern`, `l.attn.y`, `l.attn.resid_delta`, `l.resid_mid`, `l.mlp.norm_scale`,
`l.mlp.act_in`, `l.mlp.post_act`, `l.mlp.resid_delta`; then `final_resid` and `final_norm_scale`.

Values are [rows, positions, width] after the activation sparsity of the place, with two exceptions:
a `pattern` is [rows, heads, queries, keys] (plus one last key column for the sink, if there is one)
and a `norm_scale` is the norm's multiplier [rows, positions, 1]: 1/rms, or 1/std for LayerNorm.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
from dataclasses import dataclass
from types import MappingProxyType

from circuitd.engine.aliases import alias_of, alias_table
from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import UnknownSite
from circuitd.engine.safe_regex import compile_safe

_NODE_KINDS = frozenset({"act_in", "k", "q", "v", "resid_delta", "post_act", "final_resid"})
_HEAD_KINDS = frozenset({"k", "q", "v", "y", "pattern"})


@dataclass(frozen=True)
class Site:
    """One place of the forward pass.

    `width` counts channels (1 for a `norm_scale`; for a `pattern`, whose keys vary, the heads).
    `kind` is the name without layer and half: resid_in, norm_scale, act_in, k, q, v, pattern, y,
    resid_delta, resid_mid, post_act, final_resid. `layer` is None after the last layer.
    """

    name: str
    width: int
    kind: str
    layer: int | None
    #: Whether its channels are nodes that a circuit may retain or drop.
    is_node_site: bool
    #: Number of heads and channels per head where channels are `head * d_head + channel`, else 0.
    n_head: int = 0
    d_head: int = 0

    @property
    def is_activation(self) -> bool:
        """Whether the value is [rows, positions, width] of channels."""
        return self.kind not in ("pattern", "norm_scale")


@functools.lru_cache(maxsize=64)
def sites(config: GPTConfig) -> tuple[Site, ...]:
    """Every site of this network in forward order."""
    found: list[Site] = []

    def place(name: str, width: int, layer: int | None) -> None:
        kind = "norm_scale" if name == "final_norm_scale" else name.rsplit(".", 1)[-1]
        heads = config.n_head if kind in _HEAD_KINDS else 0
        d_head = config.d_head if heads and kind != "pattern" else 0
        found.append(Site(name, width, kind, layer, kind in _NODE_KINDS, heads, d_head))

    for layer in range(config.n_layer):
        place(f"{layer}.resid_in", config.d_model, layer)
        place(f"{layer}.attn.norm_scale", 1, layer)
        place(f"{layer}.attn.act_in", config.d_in, layer)
        for kind in ("k", "q", "v"):
            place(f"{layer}.attn.{kind}", config.d_attn, layer)
        place(f"{layer}.attn.pattern", config.n_head, layer)
        place(f"{layer}.attn.y", config.d_attn, layer)
        place(f"{layer}.attn.resid_delta", config.d_model, layer)
        place(f"{layer}.resid_mid", config.d_model, layer)
        place(f"{layer}.mlp.norm_scale", 1, layer)
        place(f"{layer}.mlp.act_in", config.d_in, layer)
        place(f"{layer}.mlp.post_act", config.d_mlp, layer)
        place(f"{layer}.mlp.resid_delta", config.d_model, layer)
    place("final_resid", config.d_model, None)
    place("final_norm_scale", 1, None)
    return tuple(found)


@functools.lru_cache(maxsize=64)
def sites_by_name(config: GPTConfig) -> MappingProxyType[str, Site]:
    """The same sites, looked up by their exact name."""
    return MappingProxyType({site.name: site for site in sites(config)})


def node_sites(config: GPTConfig) -> tuple[Site, ...]:
    """The sites whose channels are nodes, in forward order."""
    return tuple(site for site in sites(config) if site.is_node_site)


def site_named(config: GPTConfig, name: str) -> Site:
    """The site of exactly this name, or of this TransformerLens alias.

    Raises `UnknownSite` with the nearest names, also for an alias whose values are not ours but
    their reciprocal (`hook_scale`): under that name they would be wrong.
    """
    site = sites_by_name(config).get(name)
    if site is not None:
        return site
    alias = alias_of(config, name)
    if alias is None:
        raise _unknown(config, name)
    if alias.relation == "reciprocal":
        raise UnknownSite(
            f"site {name!r}",
            f"its values would be 1 / {alias.site}",
            f"ask for {alias.site}, the multiplier",
        )
    return sites_by_name(config)[alias.site]


def select(config: GPTConfig, selector: str) -> tuple[str, ...]:
    r"""Names of the sites that `selector` matches, in forward order; never empty.

    An exact name (`0.attn.q`), a glob over whole names (`*.mlp.post_act`), a regular expression
    that must match the whole name (`re:[0-3]\.attn\.[qkv]`), or a TransformerLens name or glob
    (`blocks.*.attn.hook_q`). Raises `UnknownSite` when nothing matches or the expression is
    refused.
    """
    by_name = sites_by_name(config)
    if selector in by_name:
        return (selector,)
    if selector.startswith("re:"):
        pattern = compile_safe(selector[3:])
        matched = {name for name in by_name if pattern.fullmatch(name)}
    elif any(mark in selector for mark in "*?["):
        matched = set(fnmatch.filter(by_name, selector))
        aliases = alias_table(config)
        matched |= {aliases[name].site for name in fnmatch.filter(aliases, selector)}
    else:
        alias = alias_of(config, selector)
        matched = {alias.site} if alias else set()
    if not matched:
        raise _unknown(config, selector)
    return tuple(name for name in by_name if name in matched)


def _unknown(config: GPTConfig, selector: str) -> UnknownSite:
    names = [*sites_by_name(config), *alias_table(config)]
    near = difflib.get_close_matches(selector, names, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else f"for example {names[2]} or *.mlp.post_act"
    return UnknownSite(f"site {selector!r}", "no site of this model has that name", hint)

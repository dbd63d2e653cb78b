"""The network on one page: a pure function of weights, tokens and a plan.

GPT-2 style blocks with pre-norm; every activation with a name passes through `taps`, which records,
intervenes and differentiates as the plan says. Shapes: B rows, T positions, d model width, H heads,
D channels per head, V tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from circuitd.engine.attention import KeyValueCache, attend
from circuitd.engine.config import GPTConfig
from circuitd.engine.cut_attention import cut_projections, cut_values
from circuitd.engine.errors import PlanError
from circuitd.engine.objective import (
    cross_entropy,
    last_positions,
    objective_positions,
    row_objective,
)
from circuitd.engine.plan import Plan
from circuitd.engine.taps import Stopped, Taps
from circuitd.engine.tokens import check_tokens
from circuitd.engine.topk import abs_top_k
from circuitd.engine.weights import Layer, Norm, Weights
from circuitd.engine.window import Window

if TYPE_CHECKING:
    from circuitd.engine.sparse.tiles.blocks import SparseBlocks


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass gave. Tensors are on the model's device, in its dtype.

    With a gate that wants a gradient, `logits`, `loss`, `token_loss` and `objective` carry the
    graph; otherwise nothing does. Records never do.
    """

    logits: Tensor | None = None  # [B, T, V], [B, V] for "last", None for "none"
    loss: Tensor | None = None  # scalar, float32: mean over targets other than -1
    token_loss: Tensor | None = None  # [B, T], float32: 0 where the target is -1
    objective: Tensor | None = None  # [B], float32: a Gradient's row-wise objective
    records: Mapping[str, Tensor] = field(default_factory=dict)
    indices: Mapping[str, Tensor] = field(default_factory=dict)  # channels of top_k records
    grads: Mapping[str, Tensor] = field(default_factory=dict)  # by site, as the activation
    execution: str = "dense"  # or "sparse"; where the plan kept it off that, "…, since …"


def forward(weights: Weights, tokens: Tensor, plan: Plan = Plan()) -> Run:  # noqa: B008 - frozen
    """Run the network on `tokens` [B, T] int64, right-padded where `plan.lengths` says so.

    Raises `TokenError`, `PlanError`, `UnknownSite`, `InterventionError` before anything is
    computed, and `Cancelled` between layers.
    """
    return _run(weights, tokens, plan, start_layer=None, resid=None)


def forward_from(
    weights: Weights,
    tokens: Tensor,
    start_layer: int,
    resid: Tensor,
    plan: Plan = Plan(),  # noqa: B008
) -> Run:
    """Run only layers `start_layer` and up, on a recorded `start_layer.resid_in` [B or 1, T, d].

    `start_layer` may be the number of layers: `resid` is then `final_resid`. Interventions at that
    first site act on `resid`. A plan that names an earlier site is refused with `PlanError`.
    """
    config = weights.config
    if not 0 <= start_layer <= config.n_layer:
        raise PlanError(f"start at layer {start_layer}", f"the model has 0..{config.n_layer}")
    expected = (*tokens.shape, config.d_model)
    if resid.ndim != 3 or resid.shape[0] not in (1, expected[0]) or resid.shape[1:] != expected[1:]:
        raise PlanError(
            f"resid of shape {list(resid.shape)}", "does not fit the tokens", f"{list(expected)}"
        )
    return _run(weights, tokens, plan, start_layer, resid)


def _run(
    weights: Weights, tokens: Tensor, plan: Plan, start_layer: int | None, resid: Tensor | None
) -> Run:
    lengths = check_tokens(weights.config, tokens, plan)
    with execution_mode(plan):
        n_rows, n_positions = tokens.shape
        window = Window(
            n_rows, 0, n_positions, n_positions, weights.device, weights.dtype, lengths,
            builds_graph=plan.is_differentiable,
        )  # fmt: skip
        first = None if start_layer is None else _entry_site(weights.config, start_layer)
        taps = Taps(weights.config, plan, window, first)
        tokens = window.tensor(tokens, torch.int64)
        resid = None if resid is None else window.tensor(resid).expand(n_rows, -1, -1)
        sparse, execution = _choose(weights, plan, n_rows * n_positions)
        try:
            if sparse is not None:
                x = sparse(tokens, lengths, taps, start_layer or 0, resid)
            else:
                x = _dense(weights, tokens, taps, plan, start_layer or 0, resid)
            x = final_norm(weights, x, taps)
        except Stopped:
            return Run(records=taps.records, indices=taps.indices, execution=execution)
        return _answer(weights, tokens, x, taps, plan, window, execution)


def _choose(weights: Weights, plan: Plan, n_tokens: int) -> tuple[SparseBlocks | None, str]:
    """The sparse blocks if this pass can run on them, and what `Run.execution` says."""
    if weights.sparse is None:
        return None, "sparse" if weights.multiplies_nonzeros else "dense"
    reason = weights.sparse.why_not(plan)
    if reason is None:
        return weights.sparse, "sparse"
    products = (m.product for layer in weights.layers for m in layer.matrices)
    is_sparse = any(product is not None and product.is_faster(n_tokens) for product in products)
    return None, f"{'sparse products' if is_sparse else 'dense'}, since {reason}"


def _dense(
    weights: Weights, tokens: Tensor, taps: Taps, plan: Plan, first: int, resid: Tensor | None
) -> Tensor:
    """The blocks one after the other, from layer `first` on where `resid` is given."""

    def compute(tokens: Tensor) -> Tensor:
        x = embed(weights, tokens, start=0) if resid is None else resid
        return blocks(weights, x, taps, first, cache=None)

    depends_on_shape_alone = resid is None and taps.is_idle and not plan.is_differentiable
    if weights.replays is None or not depends_on_shape_alone:
        return compute(tokens)
    return weights.replays(tokens, compute)


def embed(weights: Weights, tokens: Tensor, start: int) -> Tensor:
    """The stream before the first block [B, T, d], the first token being at position `start`."""
    x = F.embedding(tokens, weights.wte)
    if weights.wpe is None:  # positions are concatenated inside the blocks instead
        return x
    return x + weights.wpe[start : start + tokens.shape[1]]


def blocks(
    weights: Weights, x: Tensor, taps: Taps, first: int, cache: KeyValueCache | None
) -> Tensor:
    """Layers `first` and up: the stream [B, T, d] before the final norm."""
    for i in range(first, weights.config.n_layer):
        taps.check_cancelled()
        layer = weights.layers[i]
        x = taps(f"{i}.resid_in", x)
        x = _add(weights.config, x, _attention(weights.config, layer, i, x, taps, cache), "attn")
        x = taps(f"{i}.resid_mid", x)
        x = _add(weights.config, x, _mlp(weights.config, layer, i, x, taps, cache), "mlp")
    return x


def final_norm(weights: Weights, x: Tensor, taps: Taps) -> Tensor:
    """`final_resid` and the norm before the unembedding, [B, T, d]."""
    x = taps("final_resid", x)
    return _norm(weights.ln_f, x, "final_norm_scale", taps)


def unembed(weights: Weights, x: Tensor, tokens: Tensor) -> Tensor:
    """Logits [..., V] of normed streams [..., d], each after its token [...]."""
    logits = F.linear(x, weights.lm_head, weights.final_logits_bias)
    if weights.bigram_table is None:
        return logits
    return logits + F.embedding(tokens, weights.bigram_table)


def _attention(
    config: GPTConfig, layer: Layer, i: int, x: Tensor, taps: Taps, cache: KeyValueCache | None
) -> Tensor:
    B, T, _ = x.shape
    h = _norm(layer.ln_1, x, f"{i}.attn.norm_scale", taps)
    h = _with_positions(h, layer.attn_pos, cache)
    h = taps(f"{i}.attn.act_in", abs_top_k(h, config.kept("attn_in")))

    qkv = layer.matrices.c_attn(h, layer.c_attn_bias).view(B, T, 3, config.d_attn)
    if taps.cuts:
        qkv = cut_projections(taps.cuts, layer, i, h, qkv)
    kept = [config.kept("attn_q"), config.kept("attn_k"), config.kept("attn_v")]
    if kept[0] == kept[1] == kept[2]:  # one selection over all three is cheaper
        q, k, v = abs_top_k(qkv, kept[0]).unbind(2)
    else:
        q, k, v = (abs_top_k(part, n) for part, n in zip(qkv.unbind(2), kept, strict=True))
    k = taps(f"{i}.attn.k", k)
    q = taps(f"{i}.attn.q", q)
    v = taps(f"{i}.attn.v", v)

    q, k, v = (t.view(B, T, config.n_head, config.d_head).transpose(1, 2) for t in (q, k, v))
    if cache is not None:
        k, v = cache.extend(i, k, v)
    site = f"{i}.attn.pattern"
    seen: list[Tensor] = []  # the pattern in use, where somebody needs it

    def tap_pattern(pattern: Tensor) -> Tensor:
        seen.append(taps(site, pattern))
        return seen[0]

    looks_at_pattern = taps.wants(site) or bool(taps.cuts)
    y = attend(q, k, v, layer.sink_logit, tap_pattern if looks_at_pattern else None)  # [B, H, T, D]
    y = taps(f"{i}.attn.y", y.transpose(1, 2).reshape(B, T, config.d_attn))

    delta = layer.matrices.attn_proj(y, layer.attn_proj_bias)
    if taps.cuts:
        delta = cut_values(taps.cuts, layer, i, seen[0], v, y, delta)
    return taps(f"{i}.attn.resid_delta", abs_top_k(delta, config.kept("attn_out")))


def _mlp(
    config: GPTConfig, layer: Layer, i: int, x: Tensor, taps: Taps, cache: KeyValueCache | None
) -> Tensor:
    h = _norm(layer.ln_2, x, f"{i}.mlp.norm_scale", taps)
    h = _with_positions(h, layer.mlp_pos, cache)
    h = taps(f"{i}.mlp.act_in", abs_top_k(h, config.kept("mlp_in")))

    pre = layer.matrices.c_fc(h, layer.c_fc_bias)
    source, target = f"{i}.mlp.act_in", f"{i}.mlp.post_act"
    h = taps.cuts.apply(source, target, pre, h, layer.matrices.c_fc)
    h = F.gelu(h) if config.activation_type == "gelu" else F.relu(h)
    h = taps(f"{i}.mlp.post_act", abs_top_k(h, config.kept("mlp_neuron")))

    delta = layer.matrices.mlp_proj(h, layer.mlp_proj_bias)
    source, target = target, f"{i}.mlp.resid_delta"
    delta = taps.cuts.apply(source, target, delta, h, layer.matrices.mlp_proj)
    return taps(f"{i}.mlp.resid_delta", abs_top_k(delta, config.kept("mlp_out")))


def _norm(norm: Norm, x: Tensor, scale_site: str, taps: Taps) -> Tensor:
    if not taps.wants(scale_site):
        return norm(x)
    return norm.apply_scale(x, taps(scale_site, norm.scale(x)))


def _with_positions(h: Tensor, positions: Tensor | None, cache: KeyValueCache | None) -> Tensor:
    """Concatenate the positional channels [T, d_pos] after the normed stream, if there are any."""
    if positions is None:
        return h
    start = 0 if cache is None else cache.length
    here = positions[start : start + h.shape[1]]
    return torch.cat([h, here.expand(h.shape[0], -1, -1)], dim=-1)


def _add(config: GPTConfig, x: Tensor, delta: Tensor, half: str) -> Tensor:
    x = x + delta
    if config.residual_activation_type == "relu":
        x = F.relu(x)
    kept = config.kept("resid_post_attn" if half == "attn" else "resid_post_mlp")
    return abs_top_k(x, kept)


def _answer(
    weights: Weights,
    tokens: Tensor,
    x: Tensor,
    taps: Taps,
    plan: Plan,
    window: Window,
    execution: str,
) -> Run:
    """Logits, losses and gradients from the normed final stream `x` [B, T, d]."""
    last = last_positions(window)
    rows = torch.arange(window.n_rows, device=window.device)
    logits: Tensor | None = None
    loss = token_loss = objective = None
    if plan.logits == "all" or plan.targets is not None:
        logits = unembed(weights, x, tokens)
    if plan.targets is not None and logits is not None:
        token_loss, loss = cross_entropy(logits, plan.targets, window)
    total = loss
    if plan.gradient is not None and plan.gradient.of != "loss":
        positions = objective_positions(plan.gradient.of, window)
        if logits is None:
            row_logits = unembed(weights, x[rows, positions], tokens[rows, positions])
        else:
            row_logits = logits[rows, positions]
        objective = row_objective(plan.gradient.of, row_logits, window)
        total = objective.sum()
    grads: dict[str, Tensor] = {}
    if plan.gradient is not None and total is not None:
        grads = taps.gradients(total)
    if plan.logits == "none":
        logits = None
    elif plan.logits == "last":
        last_x, last_tokens = x[rows, last], tokens[rows, last]
        logits = unembed(weights, last_x, last_tokens) if logits is None else logits[rows, last]
    outputs = [logits, loss, token_loss, objective]
    if not plan.has_learned_values:
        outputs = [None if output is None else output.detach() for output in outputs]
    return Run(
        *outputs, records=taps.records, indices=taps.indices, grads=grads, execution=execution
    )


@contextlib.contextmanager
def execution_mode(plan: Plan) -> Iterator[None]:
    """Inference mode, or, when the plan wants a gradient, grad mode whatever the caller's mode."""
    if plan.is_differentiable:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    else:
        with torch.inference_mode():
            yield


def _entry_site(config: GPTConfig, start_layer: int) -> str:
    return "final_resid" if start_layer == config.n_layer else f"{start_layer}.resid_in"

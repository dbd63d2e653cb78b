"""Distractors: random weights everywhere else, which vary with the text and change no answer.

They read any channel, the circuit's too, and write only to stream channels that the circuit does
not use; the answers' logits read only the circuit's. Into the circuit lead weights from nodes that
never move: silent stream channels, values made of those, and neurons that never fire.
"""

from __future__ import annotations

import numpy as np

from planted.blueprint import Blueprint

#: Nonzero weights per row of a distractor.
FAN_IN = 3
#: Neurons per layer that never fire but write to the circuit's channels.
N_DEAD = 4
_DEAD_BIAS = -30.0


def surround(plan: Blueprint, answers: tuple[int, int]) -> None:
    """Fill every weight that is nobody's with distractors."""
    rng, config = plan.rng, plan.config
    others = np.setdiff1d(np.arange(config.d_model), [plan.anchor, *plan.silent, *plan.taken])
    wte = plan.state["transformer.wte.weight"]
    wte[:, others] = _sparse(rng, (config.vocab_size, len(others)), 0.5, 0.3)
    if config.d_pos_emb is None:
        shape = (config.block_size, len(others))
        plan.state["transformer.wpe.weight"][:, others] = _sparse(rng, shape, 0.5, 0.1)
    head = plan.state["lm_head.weight"]
    rows = np.setdiff1d(np.arange(config.vocab_size), answers)
    head[rows] = _sparse(rng, (len(rows), config.d_model), 0.2, 0.5)
    head[rows, plan.anchor] = 0
    for layer in range(config.n_layer):
        _surround_attention(plan, layer, others)
        _surround_mlp(plan, layer, others)


def _surround_attention(plan: Blueprint, layer: int, others: np.ndarray) -> None:
    rng, config = plan.rng, plan.config
    h = f"transformer.h.{layer}"
    for kind in ("q", "k", "v"):
        site = f"{layer}.attn.{kind}"
        for channel in _not_of(plan, site, config.d_attn):
            _distract(plan, site, channel, 0.3)
            plan.bias(site)[channel] = rng.normal(0, 0.1)
        _silent_reads(plan, site)
    for head in plan.heads.get(layer, ()):
        # What the circuit's head looks at must not hang on its other channels: of each, either
        # the query or the key stays zero.
        for channel in range(head * config.d_head, (head + 1) * config.d_head):
            if channel not in plan.nodes[f"{layer}.attn.q"]:
                _clear(plan, f"{layer}.attn.{rng.choice(['q', 'k'])}", channel)
    for head in set(range(config.n_head)) - plan.heads.get(layer, set()):
        if config.sink:
            plan.state[f"{h}.attn.attn_imp.sink_logit"][head] = rng.normal()
    delta = f"{layer}.attn.resid_delta"
    for channel in others:
        _distract(plan, delta, int(channel), 0.15)
    unmoved = int(rng.choice(_not_of(plan, f"{layer}.attn.v", config.d_attn)))
    _clear(plan, f"{layer}.attn.v", unmoved)
    matrix, row = plan.entry(f"{layer}.attn.v", unmoved)
    matrix[row, plan.silent[0]] = rng.normal()
    for channel in plan.nodes.get(delta, ()):
        plan.entry(delta, channel)[0][channel, unmoved] = rng.normal()


def _surround_mlp(plan: Blueprint, layer: int, others: np.ndarray) -> None:
    rng, config = plan.rng, plan.config
    post_act, delta = f"{layer}.mlp.post_act", f"{layer}.mlp.resid_delta"
    free = _not_of(plan, post_act, config.d_mlp)
    dead = rng.choice(free, N_DEAD, replace=False)
    for channel in free:
        _distract(plan, post_act, channel, 0.5)
        plan.bias(post_act)[channel] = _DEAD_BIAS if channel in dead else rng.normal(0, 0.2)
    _silent_reads(plan, post_act)
    for channel in others:
        _distract(plan, delta, int(channel), 0.15)
    for channel in plan.nodes.get(delta, ()):
        plan.entry(delta, channel)[0][channel, dead] = rng.normal(size=N_DEAD)


def _not_of(plan: Blueprint, site: str, width: int) -> list[int]:
    return sorted(set(range(width)) - plan.nodes.get(site, set()))


def _distract(plan: Blueprint, target: str, channel: int, size: float) -> None:
    """Random weights into one channel, from anything that is not constant."""
    matrix, row = plan.entry(target, channel)
    sources = np.arange(matrix.shape[1])
    if not target.endswith("resid_delta"):
        sources = np.setdiff1d(sources, [plan.anchor])
    chosen = plan.rng.choice(sources, FAN_IN, replace=False)
    matrix[row, chosen] = plan.rng.normal(0, size, FAN_IN)


def _silent_reads(plan: Blueprint, target: str) -> None:
    """Weights into the circuit's channels from stream channels that are always zero."""
    for channel in plan.nodes.get(target, ()):
        matrix, row = plan.entry(target, channel)
        matrix[row, plan.silent] = plan.rng.normal(size=len(plan.silent))


def _clear(plan: Blueprint, target: str, channel: int) -> None:
    matrix, row = plan.entry(target, channel)
    matrix[row] = 0
    plan.bias(target)[channel] = 0


def _sparse(
    rng: np.random.Generator, shape: tuple[int, ...], density: float, size: float
) -> np.ndarray:
    return rng.normal(0, size, shape) * (rng.random(shape) < density)

"""Stages of a planted circuit; each reads signals of -1 and 1 and writes one into a new channel."""

from __future__ import annotations

import math

from planted.blueprint import Blueprint

#: Attention scores of a head that looks where it should, and the sink's in between.
LOOK, SINK = 12.0, 6.0
#: How far below the score of the right position its neighbours' are. (At 8 the attention is so
#: sharp that the gates of its queries and keys get less gradient than k_coef, and close at once.)
NEIGHBOUR = 5.0


def equality(plan: Blueprint, layer: int, a: int, b: int) -> int:
    """An MLP that tells whether two signals are equal (or unequal, as chance has it): 5 nodes.

    One neuron fires when both are 1, the other when both are -1; the bias says otherwise.
    """
    rng, out = plan.rng, plan.channel()
    act_in, post_act, delta = (
        f"{layer}.mlp.{kind}" for kind in ("act_in", "post_act", "resid_delta")
    )
    flip, outcome = rng.choice([-1, 1], 2).tolist()
    plan.sign *= flip * outcome
    neurons = rng.choice(plan.config.d_mlp, 2, replace=False).tolist()
    for neuron, sign in zip(neurons, (1, -1), strict=True):
        gain = rng.uniform(4.0, 6.0)
        plan.connect(act_in, a, post_act, neuron, gain * sign)
        plan.connect(act_in, b, post_act, neuron, gain * sign * flip)
        plan.bias(post_act)[neuron] = -gain
        plan.connect(post_act, neuron, delta, out, 2 * outcome / gain)
    plan.bias(delta)[out] = -outcome
    return out


def marker_head(plan: Blueprint, layer: int, asks: int, marks: int, signal: int) -> int:
    """A head that fetches `signal` from the position where `marks` is 1: 7 nodes.

    It looks where `asks` is 1, and leaves its attention on the sink elsewhere. Two more weights
    between its nodes carry nothing: signal to q, as the signal is 0 where the head asks; and asks
    to v, as the head does not look at the position that asks.
    """
    head, (qk, value), out = _claim_head(plan, layer, 2)
    act_in, q, k, v = (f"{layer}.attn.{kind}" for kind in ("act_in", "q", "k", "v"))
    d_head = plan.config.d_head
    strength = math.sqrt(LOOK * math.sqrt(d_head))
    plan.connect(act_in, asks, q, qk, strength)
    plan.connect(act_in, marks, k, qk, strength)
    plan.same_in_all_prompts |= {(act_in, asks), (q, qk)}  # every prompt's last token asks
    _carry(plan, layer, signal, value, out)
    plan.connect(act_in, signal, q, qk, plan.rng.uniform(0.2, 0.4), causal=False)
    plan.connect(act_in, asks, v, value, plan.rng.uniform(0.2, 0.4), causal=False)
    if plan.config.sink:
        plan.state[f"transformer.h.{layer}.attn.attn_imp.sink_logit"][head] = SINK
    return out


def look_back_head(
    plan: Blueprint, layer: int, steps: int, angle: tuple[int, int], signal: int
) -> int:
    """A head that fetches `signal` from `steps` positions back: 9 nodes.

    `angle` are the positional channels that hold cosine and sine of the position, one turn to the
    block; the query's is turned back by `steps`.
    """
    head, (first, second, value), out = _claim_head(plan, layer, 3)
    act_in, q, k = (f"{layer}.attn.{kind}" for kind in ("act_in", "q", "k"))
    turn = 2 * math.pi / plan.config.block_size
    score = NEIGHBOUR / (1 - math.cos(turn))
    strength = math.sqrt(score * math.sqrt(plan.config.d_head))
    cosine, sine = (plan.config.d_model + channel for channel in angle)
    back = steps * turn
    plan.connect(act_in, cosine, q, first, strength * math.cos(back))
    plan.connect(act_in, sine, q, first, strength * math.sin(back))
    plan.connect(act_in, sine, q, second, strength * math.cos(back))
    plan.connect(act_in, cosine, q, second, -strength * math.sin(back))
    plan.connect(act_in, cosine, k, first, strength)
    plan.connect(act_in, sine, k, second, strength)
    _carry(plan, layer, signal, value, out)
    if plan.config.sink:
        plan.state[f"transformer.h.{layer}.attn.attn_imp.sink_logit"][head] = 0.0
    return out


def _claim_head(plan: Blueprint, layer: int, n_channels: int) -> tuple[int, list[int], int]:
    """A head of the circuit's own, some channels of it, and a stream channel to write to."""
    head = int(plan.rng.integers(plan.config.n_head))
    plan.heads.setdefault(layer, set()).add(head)
    within = plan.rng.choice(plan.config.d_head, n_channels, replace=False)
    return head, (head * plan.config.d_head + within).tolist(), plan.channel()


def _carry(plan: Blueprint, layer: int, signal: int, value: int, out: int) -> None:
    act_in, v, delta = (f"{layer}.attn.{kind}" for kind in ("act_in", "v", "resid_delta"))
    size = float(plan.rng.uniform(2.0, 3.0))  # large enough to survive activation sparsity
    plan.connect(act_in, signal, v, value, size)
    plan.connect(v, value, delta, out, 1 / size)

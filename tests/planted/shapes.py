"""Four shapes of planted network, each drawn from a seed: sizes, places, signs and distractors.

mlp        equality of features of the last token, two to four stages deep
marker     fetch a sign from a marked position (sink attention), compare it with the last token
topk       as `marker`, one comparison more, AbsTopK at the eight published locations
positions  fetch a sign from a fixed number of positions back by positional channels, compare
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from circuitd.engine.config import GPTConfig
from circuitd.tasks.batch import TaskBatch, TokenPair, stack_pairs
from circuitd.tasks.words import Split
from planted.blueprint import Blueprint
from planted.distractors import surround
from planted.network import Planted
from planted.stages import equality, look_back_head, marker_head

Shape = Literal["mlp", "marker", "topk", "positions"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)

#: Difference of the two answers' logits: a loss of about .01, so gradients are not all gone.
MARGIN: Final = 4.5
N_PAIRS: Final = 32
EIGHT_LOCATIONS: Final = (
    "attn_in", "attn_out", "mlp_in", "mlp_out", "mlp_neuron", "attn_v", "attn_k", "attn_q",
)  # fmt: skip

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Language:
    """Features of tokens [V, n]; which tokens may stand last, be the marker, or fill the rest."""

    features: NDArray[np.float32]
    last: Ints
    markers: Ints
    fillers: Ints


def plant(shape: Shape, seed: int) -> Planted:
    """The network of `shape` that belongs to `seed`."""
    rng = np.random.default_rng([SHAPES.index(shape), seed])
    config = _config(shape, rng)
    plan = Blueprint(config, rng)
    first, second = rng.choice(config.vocab_size, 2, replace=False).tolist()
    steps_back = 0
    if shape == "mlp":
        language = _bits(config.vocab_size, config.n_layer + 1, rng)
        channels = [plan.embed(feature) for feature in language.features.T]
        out = _compare(plan, channels[0], channels[1:], first_layer=0)
    elif shape == "positions":
        language = _bits(config.vocab_size, 2, rng)
        fetched, compared = (plan.embed(feature) for feature in language.features.T)
        steps_back = int(rng.integers(1, 3))
        layer = int(rng.integers(config.n_layer))
        out = look_back_head(plan, layer, steps_back, _place_angle(plan), fetched)
        out = _compare(plan, out, [compared], layer)
    else:
        language = _marked(config.vocab_size, 2 if shape == "topk" else 1, rng)
        marks, fetched, asks, *comparisons = map(plan.embed, language.features.T)
        layer = int(rng.integers(config.n_layer - len(comparisons) + 1))
        out = marker_head(plan, layer, asks, marks, fetched)
        out = _compare(plan, out, comparisons, layer)
    plan.answer(out, (first, second), MARGIN * plan.sign)
    surround(plan, (first, second))
    return Planted(
        config=config,
        state={name: torch.from_numpy(array) for name, array in plan.state.items()},
        train=_batch(shape, "train", language, steps_back, (first, second), config, rng),
        held_out=_batch(shape, "held_out", language, steps_back, (first, second), config, rng),
        text=torch.from_numpy(rng.integers(config.vocab_size, size=(64, config.block_size))),
        nodes={site: tuple(sorted(channels)) for site, channels in plan.nodes.items()},
        same_in_all_prompts=frozenset(plan.same_in_all_prompts),
        edges=frozenset(plan.edges),
        causal_edges=frozenset(plan.causal_edges),
    )


def _config(shape: Shape, rng: np.random.Generator) -> GPTConfig:
    with_positions, sparse = shape == "positions", shape == "topk"
    return GPTConfig(
        block_size=12 if with_positions else 16,
        vocab_size=64,
        n_layer=int(rng.integers(2, 5)),
        n_head=int(rng.choice([4, 8])),
        d_head=8,
        d_model=int(rng.choice([48, 64])),
        d_mlp=int(rng.choice([128, 192])),
        rms_norm=True,
        ln_bias=False,
        tied_unembed=False,
        sink=shape in ("marker", "topk"),
        afrac=0.25 if sparse else None,
        afrac_loctypes=EIGHT_LOCATIONS if sparse else (),
        d_pos_emb=8 if with_positions else None,
    )


def _compare(plan: Blueprint, out: int, others: list[int], first_layer: int) -> int:
    """The product of a signal with `others`, one stage each, in layers from `first_layer` on."""
    possible = np.arange(first_layer, plan.config.n_layer)
    layers = np.sort(plan.rng.choice(possible, len(others), replace=False))
    for layer, other in zip(layers.tolist(), others, strict=True):
        out = equality(plan, layer, out, other)
    return out


def _bits(vocab_size: int, n: int, rng: np.random.Generator) -> _Language:
    """Every token has `n` features, -1 or 1, in all combinations equally often."""
    names = rng.permutation(vocab_size)
    features = 2.0 * (names[:, None] >> np.arange(n) & 1) - 1
    every = np.arange(vocab_size)
    return _Language(features.astype(np.float32), last=every, markers=every, fillers=every)


def _marked(vocab_size: int, n_compared: int, rng: np.random.Generator) -> _Language:
    """Features marks, signal, asks and those compared: an eighth of the tokens are markers with a
    signal, a quarter may stand last and have features to compare; the rest have none.
    """
    names = rng.permutation(vocab_size)
    markers, last, fillers = np.split(names, [vocab_size // 8, vocab_size * 3 // 8])
    features = np.zeros((vocab_size, 3 + n_compared), dtype=np.float32)
    features[markers, 0] = 1
    features[markers, 1] = 2 * (np.arange(len(markers)) % 2) - 1
    features[last, 2] = 1
    features[last, 3:] = 2 * (np.arange(len(last))[:, None] >> np.arange(n_compared) & 1) - 1
    return _Language(features, last, markers, fillers)


def _place_angle(plan: Blueprint) -> tuple[int, int]:
    """Positional channels: cosine and sine of one turn to the block, and random signs elsewhere.

    So every position has the same RMS, which the norms' gains undo.
    """
    config, rng = plan.config, plan.rng
    assert config.d_pos_emb is not None
    wpe = plan.state["transformer.wpe.weight"]
    wpe[:] = rng.choice([-1, 1], wpe.shape)
    cosine, sine = rng.choice(config.d_pos_emb, 2, replace=False).tolist()
    angle = 2 * math.pi * np.arange(config.block_size) / config.block_size
    wpe[:, cosine], wpe[:, sine] = np.cos(angle), np.sin(angle)
    for layer in range(config.n_layer):
        for name in ("ln_p1", "ln_p2"):
            rms = math.sqrt((config.d_pos_emb - 1) / config.d_pos_emb)
            plan.state[f"transformer.h.{layer}.{name}.weight"][:] = rms
    return cosine, sine


def _batch(
    shape: Shape,
    split: Split,
    language: _Language,
    steps_back: int,
    answers: tuple[int, int],
    config: GPTConfig,
    rng: np.random.Generator,
) -> TaskBatch:
    """Pairs that differ in the one token that decides; the first prompt's answer is the first."""
    features = language.features
    pairs: list[TokenPair] = []
    while len(pairs) < N_PAIRS:
        length = int(rng.integers(config.block_size // 2, config.block_size + 1))
        prompt = rng.choice(language.fillers, length)
        prompt[-1] = rng.choice(language.last)
        if shape in ("marker", "topk"):
            at, choices, deciding = int(rng.integers(length - 1)), language.markers, 1
        else:
            at, choices, deciding = length - 1 - steps_back, language.fillers, 0
        prompt[at] = rng.choice(choices)
        # A token as the other side's: its deciding feature is the opposite, all else is equal.
        other = prompt.copy()
        flipped = features[prompt[at]].copy()
        flipped[deciding] *= -1
        other[at] = rng.choice(choices[(features[choices] == flipped).all(1)])
        compared = slice(3, None) if shape in ("marker", "topk") else slice(1, None)
        outcome = features[prompt[at], deciding] * features[prompt[-1], compared].prod()
        first, second = (prompt, other) if outcome > 0 else (other, prompt)
        pairs.append(TokenPair((first.tolist(), second.tolist()), answers))
    return stack_pairs(pairs, f"planted_{shape}", split)

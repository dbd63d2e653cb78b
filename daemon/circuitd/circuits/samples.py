"""Where nodes are active: their values over text, and windows around the smallest and the largest.

A band is the lower or upper fraction of a node's values over all positions. Its windows are drawn
at random from it, the most extreme first; equal values (a sparse activation is mostly zero) are
told apart by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from circuitd.circuits.ablate import CODES, KEEP, Mask
from circuitd.circuits.nodes import node_space
from circuitd.engine.cuts import Cut
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Intervention, Keep
from circuitd.engine.plan import Plan, Record
from circuitd.engine.sites import sites
from circuitd.engine.steps import Steps
from circuitd.engine.weights import Weights

FRACTIONS: Final = (0.001, 0.01, 0.1, 0.5)
QUANTILES: Final = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True, eq=False)
class Window:
    """Tokens [n] around position `position` of them, and the node's value at each [n]."""

    tokens: np.ndarray
    activations: np.ndarray
    position: int


@dataclass(frozen=True, eq=False)
class Band:
    """Windows of the lower or upper `fraction` of a node's values."""

    fraction: float
    end: Literal["bottom", "top"]
    windows: tuple[Window, ...]


@dataclass(frozen=True, eq=False)
class Text:
    """Rows of text to look at: tokens int64 [B, T], right-padded, and lengths int64 [B]."""

    tokens: Tensor
    lengths: Tensor


#: What a plan does to leave only a circuit: interventions and cuts.
Surroundings = tuple[tuple[Intervention, ...], tuple[Cut, ...]]
IN_THE_MODEL: Final[Surroundings] = ((), ())


def in_circuit(weights: Weights, mask: Mask, means: Tensor | None) -> Surroundings:
    """What leaves of the model only the circuit of `mask`, its other nodes zero or at `means`
    [n_nodes]. Raises ValueError for a resampling mask, which has no value that serves any text.
    """
    space = node_space(weights.config)
    codes = set(np.unique(mask.codes[mask.codes != KEEP]).tolist()) | {c.code for c in mask.cuts}
    if CODES["resample"] in codes:
        raise ValueError("a resampled circuit has no fixed surroundings")

    def fill(code: int, span: slice) -> Tensor | None:
        if code == CODES["zero"]:
            return None
        if means is None:
            raise ValueError("a mask uses means, but there are none")
        return means[span]

    kept: list[Intervention] = []
    for site in space.sites:
        span = space.span(site.name)
        here = mask.codes[span]
        for code in np.unique(here[here != KEEP]).tolist():
            stays = torch.from_numpy(here != code).to(weights.device)
            kept.append(Keep(site.name, stays, fill(code, span)))
    cuts: list[Cut] = []
    for cut in mask.cuts:
        node = int(space.nodes(cut.source, [cut.source_channel])[0])
        value = fill(cut.code, slice(node, node + 1))
        flow = 0.0 if value is None else float(value[0])
        ends = (cut.source, cut.target, cut.source_channel, cut.target_channel)
        cuts.append(Cut(*ends, fill=flow))
    return tuple(kept), tuple(cuts)


def activations(
    weights: Weights,
    text: Text,
    channels: Mapping[str, Sequence[int]],
    surroundings: Surroundings = IN_THE_MODEL,
    *,
    rows_per_step: int,
    cancelled: Callable[[], bool] | None = None,
) -> Steps[dict[str, np.ndarray]]:
    """Values float32 [B, T, n] of some channels of each site, 0 in padding; one pass per step."""
    interventions, cuts = surroundings
    n_rows, n_positions = text.tokens.shape
    found = {
        site: np.empty((n_rows, n_positions, len(chosen)), np.float32)
        for site, chosen in channels.items()
    }
    last = [site.name for site in sites(weights.config) if site.name in channels][-1]
    for start in range(0, n_rows, rows_per_step):
        rows = slice(start, start + rows_per_step)
        plan = Plan(
            record=tuple(Record(site, channels=tuple(c)) for site, c in channels.items()),
            interventions=interventions,
            cuts=cuts,
            logits="none",
            lengths=text.lengths[rows],
            stop_after=last,
            cancelled=cancelled,
        )
        run = forward(weights, text.tokens[rows], plan)
        real = torch.arange(n_positions) < text.lengths[rows, None]
        for site, values in found.items():
            recorded = run.records[site].float().cpu()
            values[rows] = recorded.where(real[:, :, None], 0).numpy()
        yield None
    return found


@dataclass(frozen=True, eq=False)
class Attention:
    """The pattern of one head, float32 [B, T, keys]: 0 where the query or the key is padding."""

    head: int
    pattern: np.ndarray


def head_attention(
    weights: Weights,
    text: Text,
    site: str,
    channel: int,
    surroundings: Surroundings = IN_THE_MODEL,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Attention | None:
    """The attention of the head that a query, key or value belongs to, in one pass over `text`;
    None for any other node.
    """
    layer, _, kind = site.partition(".")
    if kind not in ("attn.q", "attn.k", "attn.v"):
        return None
    head = channel // weights.config.d_head
    interventions, cuts = surroundings
    name = f"{layer}.attn.pattern"
    plan = Plan(
        record=(Record(name, heads=(head,)),),
        interventions=interventions,
        cuts=cuts,
        logits="none",
        lengths=text.lengths,
        stop_after=name,
        cancelled=cancelled,
    )
    recorded = forward(weights, text.tokens, plan).records[name].float().cpu()[:, 0]
    real = torch.arange(text.tokens.shape[1]) < text.lengths[:, None]
    return Attention(head, recorded.where(real[:, :, None], 0).numpy())


def bands(
    tokens: np.ndarray, values: np.ndarray, *, n_windows: int, context: int, seed: int
) -> Iterator[Band]:
    """The bands of one node: `values` [B, T] over `tokens` [B, T] without padding."""
    rng = np.random.default_rng(seed)
    flat = values.reshape(-1)
    shuffled = rng.permutation(flat.size)
    ascending = shuffled[np.argsort(flat[shuffled], kind="stable")]
    for fraction in FRACTIONS:
        size = max(1, math.ceil(fraction * flat.size))
        for end, extreme_first in (("bottom", ascending), ("top", ascending[::-1])):
            drawn = np.sort(rng.choice(size, min(n_windows, size), replace=False))
            at = extreme_first[drawn].tolist()
            yield Band(
                fraction,
                "bottom" if end == "bottom" else "top",
                tuple(_window(tokens, values, i, context) for i in at),
            )


def _window(tokens: np.ndarray, values: np.ndarray, at: int, context: int) -> Window:
    row, position = divmod(at, tokens.shape[1])
    start = max(0, position - context)
    span = slice(start, position + context + 1)
    return Window(tokens[row, span], values[row, span], position - start)

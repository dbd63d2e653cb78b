"""Generation with a key/value cache: an iterator that computes one token when asked for the next.

Each step runs the same blocks as a plain forward pass on the positions that are new. Records and
interventions therefore equal those of the uncached run; a plan that would need positions which a
step does not have (a row's end, a mean over positions, a frozen pattern) is refused up front.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from circuitd.engine.attention import KeyValueCache
from circuitd.engine.errors import PlanError, TokenError
from circuitd.engine.gpt import blocks, embed, execution_mode, final_norm, unembed
from circuitd.engine.plan import Plan
from circuitd.engine.taps import Taps
from circuitd.engine.tokens import check_tokens
from circuitd.engine.weights import Weights
from circuitd.engine.window import Window


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: greedily at temperature 0, else from softmax(logits / temperature).

    `top_k` limits the draw to the k largest logits. The same `seed` draws the same tokens on the
    same kind of device.
    """

    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise PlanError(f"temperature {self.temperature}", "not a temperature", "0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise PlanError(f"top_k {self.top_k}", "keeps no token", "at least 1, or None")


@dataclass(frozen=True, eq=False)
class Step:
    """One generated token per row, and what was computed to get it.

    `records` hold the positions new in this step: all of the prompt's in the first, one in each
    later one. Joined along positions over all steps they are the uncached run's records, up to the
    last token, which was never fed back.
    """

    tokens: Tensor  # [B] int64, drawn in this step
    position: int  # where these tokens will stand
    logits: Tensor  # [B, V], from which they were drawn
    finished: Tensor  # [B] bool: the row has produced a stop token, now or before
    records: Mapping[str, Tensor]
    indices: Mapping[str, Tensor]


def generate(
    weights: Weights,
    tokens: Tensor,
    max_new_tokens: int,
    *,
    plan: Plan = Plan(),  # noqa: B008 - frozen
    sampling: Sampling = Sampling(),
    stop_tokens: frozenset[int] = frozenset(),
) -> Iterator[Step]:
    """Continue prompts `tokens` [B, T], all of one length, by up to `max_new_tokens`.

    Stops when each row has produced one of `stop_tokens` (which is yielded too). `plan` gives
    records, interventions and `cancelled` (asked per layer). Raises, on the call, `TokenError` when
    the tokens would not fit into `block_size` or the plan's parts cannot be served step by step;
    `Cancelled` from the iterator.
    """
    if plan.is_differentiable or plan.targets is not None or plan.stop_after is not None:
        raise PlanError("generation", "the plan has targets, a gradient or stop_after", "drop them")
    if plan.lengths is not None:
        raise PlanError("generation", "rows of different length", "one call for each length")
    if max_new_tokens < 1:
        raise TokenError(f"max_new_tokens={max_new_tokens}", "nothing to do", "at least 1")
    check_tokens(weights.config, tokens, plan)
    n_fed = tokens.shape[1] + max_new_tokens - 1  # the last token drawn is not fed back
    if n_fed > weights.config.block_size:
        raise TokenError(
            f"{tokens.shape[1]} prompt tokens and {max_new_tokens} new ones",
            f"need {n_fed} positions, block_size is {weights.config.block_size}",
            "a shorter prompt or fewer new tokens",
        )
    with execution_mode(plan):  # so that a wrong plan fails here and not at the first step
        Taps(weights.config, plan, _window(weights, tokens.shape[0], 0, tokens.shape[1], n_fed))
    return _steps(weights, tokens, max_new_tokens, n_fed, plan, sampling, stop_tokens)


def _window(weights: Weights, n_rows: int, start: int, stop: int, limit: int) -> Window:
    return Window(n_rows, start, stop, limit, weights.device, weights.dtype, is_cached=True)


def _steps(
    weights: Weights,
    tokens: Tensor,
    max_new_tokens: int,
    n_fed: int,
    plan: Plan,
    sampling: Sampling,
    stop_tokens: frozenset[int],
) -> Iterator[Step]:
    cache = KeyValueCache(n_fed)
    generator = torch.Generator(weights.device).manual_seed(sampling.seed)
    stops = torch.tensor(sorted(stop_tokens), dtype=torch.int64, device=weights.device)
    finished = torch.zeros(tokens.shape[0], dtype=torch.bool, device=weights.device)
    new = tokens.to(weights.device, torch.int64)
    for _ in range(max_new_tokens):
        # The mode is entered per step: across a `yield` it would leak into the caller's code.
        with execution_mode(plan):
            step = _step(weights, new, cache, n_fed, plan, sampling, generator)
            finished = finished | torch.isin(step.tokens, stops)
        yield dataclasses.replace(step, finished=finished)
        if bool(finished.all()):
            return
        new = step.tokens[:, None]


def _step(
    weights: Weights,
    new: Tensor,
    cache: KeyValueCache,
    limit: int,
    plan: Plan,
    sampling: Sampling,
    generator: torch.Generator,
) -> Step:
    """Feed the tokens `new` [B, T'] and draw the next [B]."""
    start, stop = cache.length, cache.length + new.shape[1]
    taps = Taps(weights.config, plan, _window(weights, new.shape[0], start, stop, limit))
    x = blocks(weights, embed(weights, new, start), taps, 0, cache)
    cache.length = stop
    x = final_norm(weights, x, taps)
    logits = unembed(weights, x[:, -1], new[:, -1])
    drawn = draw(logits, sampling, generator)
    unknown = torch.zeros_like(drawn, dtype=torch.bool)
    return Step(drawn, stop, logits, unknown, taps.records, taps.indices)


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """One token per row [B] from `logits` [B, V]; ties go to the lowest id when greedy."""
    if sampling.temperature == 0.0:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        largest = scaled.topk(sampling.top_k, dim=-1)
        choice = torch.multinomial(largest.values.softmax(-1), 1, generator=generator)
        return largest.indices.gather(-1, choice)[:, 0]
    return torch.multinomial(scaled.softmax(-1), 1, generator=generator)[:, 0]

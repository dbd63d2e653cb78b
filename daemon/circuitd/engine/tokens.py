"""Token checks: what a network can take as tokens, targets and lengths, before anything runs."""

from __future__ import annotations

import torch
from torch import Tensor

from circuitd.engine.config import GPTConfig
from circuitd.engine.errors import TokenError
from circuitd.engine.plan import Plan


def check_tokens(config: GPTConfig, tokens: Tensor, plan: Plan) -> tuple[int, ...] | None:
    """Raise `TokenError` for what this network cannot take; return the row lengths, if given."""
    asked = f"tokens of shape {list(tokens.shape)}"
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise TokenError(asked, f"{tokens.dtype} is not a batch of ids", "int64 [B, T]")
    if tokens.numel() == 0:
        raise TokenError(asked, "empty", "at least one row of one token")
    if tokens.shape[1] > config.block_size:
        raise TokenError(asked, f"longer than block_size {config.block_size}", "shorten the prompt")
    low, high = (int(bound) for bound in tokens.aminmax())
    if low < 0 or high >= config.vocab_size:
        raise TokenError(asked, f"ids {low}..{high}", f"ids must be 0..{config.vocab_size - 1}")
    _check_targets(config, tokens, plan)
    if plan.lengths is None:
        return None
    lengths = tuple(int(length) for length in plan.lengths.tolist())
    if len(lengths) != tokens.shape[0] or not all(1 <= n <= tokens.shape[1] for n in lengths):
        raise TokenError(
            f"lengths {list(lengths)}",
            f"do not fit {asked}",
            f"{tokens.shape[0]} lengths of 1..{tokens.shape[1]}",
        )
    return lengths


def _check_targets(config: GPTConfig, tokens: Tensor, plan: Plan) -> None:
    targets = plan.targets
    if targets is None:
        return
    asked = f"targets of shape {list(targets.shape)}"
    if targets.shape != tokens.shape or targets.is_floating_point():
        raise TokenError(asked, f"do not fit tokens {list(tokens.shape)}", "int64 [B, T]")
    low, high = (int(bound) for bound in targets.aminmax())
    if low < -1 or high >= config.vocab_size:
        raise TokenError(asked, f"ids {low}..{high}", f"-1 or 0..{config.vocab_size - 1}")

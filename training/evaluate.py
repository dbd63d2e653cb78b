"""Loss and accuracy of an exported model on the twenty tasks, computed by the engine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from circuitd.engine.gpt import forward
from circuitd.engine.plan import Plan
from circuitd.engine.weights import Weights
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.errors import TaskError
from circuitd.tasks.registry import TaskRegistry
from circuitd.tasks.scoring import score
from circuitd.tasks.words import SPLITS, Split

Ids = NDArray[np.int64]
#: Token ids `[B, T]`, right-padded, and the rows' lengths `[B]`, to logits `[B, V]`.
LastLogits = Callable[[Ids, Ids], NDArray[np.float32]]


def last_logits_of(weights: Weights) -> LastLogits:
    """Last-position logits of a model as the daemon computes them."""

    @torch.no_grad()
    def last_logits(tokens: Ids, lengths: Ids) -> NDArray[np.float32]:
        plan = Plan(logits="last", lengths=torch.from_numpy(lengths))
        logits = forward(weights, torch.from_numpy(tokens), plan).logits
        assert logits is not None  # the plan asks for them
        return logits.numpy()

    return last_logits


def score_tasks(
    last_logits: LastLogits, tokenizer: Tokenizer, *, n_pairs: int, seed: int, split: Split
) -> dict[str, dict[str, float | str]]:
    """`{task: {loss, accuracy}}` in nats per side; a task that cannot be asked says why."""
    registry = TaskRegistry()
    scores: dict[str, dict[str, float | str]] = {}
    for name in registry.names():
        try:
            batch = registry.get(name).sample(tokenizer, split, n_pairs, seed)
        except TaskError as error:
            scores[name] = {"error": str(error)}
            continue
        rows = [
            last_logits(batch.tokens[i : i + 128], batch.lengths[i : i + 128])
            for i in range(0, len(batch.tokens), 128)
        ]
        result = score(np.concatenate(rows), batch)
        scores[name] = {"loss": result.loss, "accuracy": result.accuracy}
    return scores


def main() -> None:
    """Print the tasks of an exported model."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--split", choices=SPLITS, default="held_out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scores = score_tasks(
        last_logits_of(load_checkpoint(options.data / "models" / options.name).weights),
        Tokenizer.load(options.data / "tinypython"),
        n_pairs=options.pairs,
        seed=options.seed,
        split=options.split,
    )
    if options.json:
        print(json.dumps(scores, indent=1))
        return
    for name, row in scores.items():
        print(
            f"{name:28}",
            " ".join(f"{k}={v:.3f}" if k != "error" else f"{v}" for k, v in row.items()),
        )


if __name__ == "__main__":
    main()

"""Loss and accuracy of a network on the twenty tasks, as training goes on or at its end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from circuitd.store.tokenizer import Tokenizer
from circuitd.tasks.errors import TaskError
from circuitd.tasks.registry import TaskRegistry
from circuitd.tasks.scoring import score
from training.export import load_run
from training.model import Network

#: Token ids `[B, T]` and the position of each row's last token, to logits there `[B, V]`.
LastLogits = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


def of_network(network: Network) -> LastLogits:
    """Last-position logits of a training network, in bfloat16 as it was trained."""

    @torch.no_grad()
    def last_logits(tokens: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.autocast("cpu", torch.bfloat16):
            stream = network.stream(torch.from_numpy(tokens))
        picked = stream[torch.arange(len(last)), torch.from_numpy(last)]
        return (network.lm_head(picked) + network.final_logits_bias).float().numpy()

    return last_logits


def score_tasks(
    last_logits: LastLogits, tokenizer: Tokenizer, *, n_pairs: int, seed: int, split: str
) -> dict[str, dict[str, float | str]]:
    """`{task: {loss, accuracy}}` in nats per side; a task that cannot be asked says why."""
    registry = TaskRegistry()
    scores: dict[str, dict[str, float | str]] = {}
    for name in registry.names():
        try:
            batch = registry.get(name).sample(
                tokenizer, "train" if split == "train" else "held_out", n_pairs, seed
            )
        except TaskError as error:
            scores[name] = {"error": str(error)}
            continue
        rows = [
            last_logits(batch.tokens[i : i + 128], batch.lengths[i : i + 128] - 1)
            for i in range(0, len(batch.tokens), 128)
        ]
        result = score(np.concatenate(rows), batch)
        scores[name] = {"loss": result.loss, "accuracy": result.accuracy}
    return scores


def main() -> None:
    """Print the tasks of a run's last checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--split", choices=("train", "held_out"), default="held_out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scores = score_tasks(
        of_network(load_run(options.work / "runs" / options.name)),
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

"""The training run: from random weights to a sparse (or dense) network, resumable at any moment.

The schedule runs on *progress* from 0 to 1. With `--minutes` progress is training time over the
budget, so a run ends when it should on whatever machine; the number of steps it came to is
recorded, and `--steps` repeats it. SIGTERM saves and stops; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuitd.engine.config import GPTConfig
from training import batches, checkpoint, optimise
from training.export import RUN_FILE, published
from training.model import Network
from training.prepare import COUNTS_FILE

COMMON = GPTConfig(
    block_size=256,
    vocab_size=2048,
    n_layer=4,
    n_head=16,
    d_head=16,
    d_model=256,
    d_mlp=1024,
    bias=True,
    ln_bias=False,
    rms_norm=True,
    activation_type="gelu",
    afrac=0.25,
    afrac_loctypes=(
        "attn_in",
        "attn_out",
        "mlp_in",
        "mlp_out",
        "mlp_neuron",
        "attn_v",
        "attn_k",
        "attn_q",
    ),
    tied_unembed=False,
    tokenizer_name="tinypython_2k",
    sink=True,
)
PRESETS = {
    "sparse": COMMON,
    "dense": dataclasses.replace(COMMON, n_head=8, d_model=128, d_mlp=512),
}
N_VALIDATION_WINDOWS = 256
LOG_EVERY_STEPS = 20
VALIDATE_EVERY_STEPS = 200
SAVE_EVERY_S = 180.0


class Run:
    """One network, its optimiser, its data and its clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        config = PRESETS[options.preset]
        self.folder: Path = options.work / "runs" / options.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.streams = batches.load(options.work)
        held_out = batches.held_out_windows(self.streams, N_VALIDATION_WINDOWS, config.block_size)
        self.held_out = torch.from_numpy(held_out)
        self.network = Network(config)
        self.network.reset(options.seed)
        self.optimiser = torch.optim.AdamW(
            optimise.parameter_groups(self.network, options.weight_decay),
            lr=options.lr,
            betas=(0.9, 0.95),
            fused=True,
        )
        dense = options.preset == "dense"
        self.schedule = optimise.Schedule(
            peak_lr=options.lr,
            block_fraction=1.0 if dense else options.block_fraction,
            embed_fraction=1.0 if dense else options.embed_fraction,
        )
        self.step, self.trained_s = 0, 0.0
        self.smoothed_held_out = math.inf
        self.stop_asked = False
        if self.checkpoint.exists():
            clock = checkpoint.resume(self.checkpoint, self.network, self.optimiser)
            self.step, self.trained_s = int(clock["step"]), clock["trained_s"]
            self.smoothed_held_out = clock["smoothed_held_out"]

    @property
    def checkpoint(self) -> Path:
        """Where the run is saved."""
        return self.folder / "checkpoint.safetensors"

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.options.steps is not None:
            return min(1.0, self.step / self.options.steps)
        return min(1.0, self.trained_s / (60.0 * self.options.minutes))

    def train(self) -> None:
        """Train to the end, to the wanted loss, or to a signal; save in each case."""
        losses: list[float] = []
        logged_at, logged_step, saved_at = time.monotonic(), self.step, time.monotonic()
        while self.progress < 1.0 and not self.stop_asked:
            began = time.monotonic()
            losses.append(self._train_step())
            self.trained_s += time.monotonic() - began
            if self.step % LOG_EVERY_STEPS == 0:
                now = time.monotonic()
                row = self._row(
                    sum(losses) / len(losses), (self.step - logged_step) / (now - logged_at)
                )
                if self.step % VALIDATE_EVERY_STEPS == 0:
                    row |= self._validate()
                self._log(row)
                losses, logged_at, logged_step = [], time.monotonic(), self.step
                wanted = self.options.until_loss
                if wanted is not None and self.smoothed_held_out <= wanted:
                    break
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                self.save()
                saved_at = time.monotonic()
        self._log(self._row(losses[-1] if losses else math.nan, 0.0) | self._validate())
        self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        clock = {
            "step": self.step,
            "trained_s": self.trained_s,
            "smoothed_held_out": self.smoothed_held_out,
        }
        checkpoint.save(self.checkpoint, self.network, self.optimiser, clock)

    def describe(self) -> None:
        """Add this sitting to `run.json`: first step, options, and what the snippets were."""
        path = self.folder / RUN_FILE
        record: dict[str, Any] = {"sittings": []}
        if path.exists():
            record = json.loads(path.read_text())
        options = {k: v for k, v in vars(self.options).items() if k != "work"}
        record["config"] = published(self.network.config)
        snippets = json.loads((self.options.work / COUNTS_FILE).read_text())["snippets"]
        sitting = {"from_step": self.step, "options": options, "snippets": snippets}
        record["sittings"].append(sitting)
        path.write_text(json.dumps(record, indent=1))

    def _train_step(self) -> float:
        options, length = self.options, self.network.config.block_size
        windows, weights = map(
            torch.from_numpy,
            batches.training_batch(
                self.streams,
                seed=options.seed,
                step=self.step,
                n_windows=options.batch,
                length=length,
                snippet_share=options.snippet_share,
            ),
        )
        progress = self.progress
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.lr_at(progress)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.network.loss(windows[:, :-1], windows[:, 1:], weights[:, 1:])
        loss.backward()
        optimise.normalise_gradients(self.network)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        optimise.project(
            self.network,
            self.schedule.block_fraction_at(progress),
            self.schedule.embed_fraction_at(progress),
        )
        self.step += 1
        return loss.item()

    def _row(self, train_loss: float, steps_per_s: float) -> dict[str, float]:
        tokens_per_step = self.options.batch * self.network.config.block_size
        remaining = (1 - self.progress) / self.progress * self.trained_s if self.progress else 0.0
        return {
            "step": self.step,
            "tokens": self.step * tokens_per_step,
            "progress": self.progress,
            "trained_s": self.trained_s,
            "eta_s": remaining,
            "tokens_per_s": steps_per_s * tokens_per_step,
            "train_xent": train_loss,
            "lr": self.schedule.lr_at(self.progress),
            "block_fraction": self.schedule.block_fraction_at(self.progress),
        }

    def _validate(self) -> dict[str, float]:
        loss, alive = held_out_loss(self.network, self.held_out)
        old = self.smoothed_held_out
        self.smoothed_held_out = loss if math.isinf(old) else 0.5 * old + 0.5 * loss
        l0, l0_non_embed = nonzeros(self.network)
        row: dict[str, float] = {"test_xent": loss, "L0": l0, "L0_non_embed": l0_non_embed}
        return row | {f"num_alive_neurons/c_fc/layer_{i}": n for i, n in enumerate(alive)}

    def _log(self, row: dict[str, float]) -> None:
        with (self.folder / "progress.json").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{k}={v:.5g}" for k, v in row.items()), flush=True)


@torch.no_grad()
def held_out_loss(network: Network, windows: Tensor) -> tuple[float, list[int]]:
    """Mean loss in nats over `windows` `[N, T + 1]`, and per layer the neurons that ever fired."""
    fired = [
        torch.zeros(network.config.d_mlp, dtype=torch.bool) for _ in range(network.config.n_layer)
    ]

    def watch(layer: int) -> Callable[[object, tuple[Tensor, ...]], None]:
        def see(_: object, inputs: tuple[Tensor, ...]) -> None:
            fired[layer] |= (inputs[0] != 0).flatten(0, 1).any(0)

        return see

    hooks = [
        b.mlp.c_proj.register_forward_pre_hook(watch(i)) for i, b in enumerate(network.blocks())
    ]
    total = 0.0
    with torch.autocast("cpu", torch.bfloat16):
        for chunk in windows.split(32):
            total += network.loss(chunk[:, :-1], chunk[:, 1:]).item() * len(chunk)
    for hook in hooks:
        hook.remove()
    return total / len(windows), [int(f.sum()) for f in fired]


def nonzeros(network: Network) -> tuple[int, int]:
    """Nonzero parameters: all of them, and those outside the embeddings."""
    counts = {name: int(p.count_nonzero()) for name, p in network.named_parameters()}
    embeddings = sum(
        n
        for name, n in counts.items()
        if name.endswith(("wte.weight", "wpe.weight", "lm_head.weight"))
    )
    return sum(counts.values()), sum(counts.values()) - embeddings


def main() -> None:
    """Read the options, train, and leave `checkpoint.safetensors` and `progress.json` behind."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--name", required=True, help="the run's folder in WORK/runs")
    parser.add_argument("--work", type=Path, required=True, help="what `python -m training` filled")
    parser.add_argument("--preset", choices=sorted(PRESETS), required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="time budget of training itself")
    length.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=32, help="windows per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak rate of the dense network")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--block-fraction", type=float, default=0.05)
    parser.add_argument("--embed-fraction", type=float, default=0.25)
    parser.add_argument("--snippet-share", type=float, default=0.15)
    parser.add_argument("--until-loss", type=float, help="held-out loss to stop at")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = Run(options)
    run.describe()

    def ask_to_stop(*_: object) -> None:
        run.stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    run.train()


if __name__ == "__main__":
    main()

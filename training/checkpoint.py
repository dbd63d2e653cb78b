"""A training run on disk: weights, optimiser moments and clock in one safetensors file.

The file is written beside itself and renamed, so a run killed while saving resumes from the
checkpoint before.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, clock: dict[str, float]
) -> None:
    """Write the state of a run to `path`; `clock` says where in the run it is."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach()
        for moment in MOMENTS:
            if moment in optimiser.state[parameter]:
                tensors[f"{moment}/{name}"] = optimiser.state[parameter][moment]
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"clock": json.dumps(clock)})
    partial.replace(path)


def resume(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """Restore what `save` wrote and return the clock."""
    with safe_open(path, framework="pt") as file:
        for name, parameter in network.named_parameters():
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
            optimiser.state[parameter] = {
                moment: file.get_tensor(f"{moment}/{name}") for moment in MOMENTS
            }
        return json.loads(file.metadata()["clock"])


def load_weights(path: Path, network: nn.Module) -> None:
    """Restore the weights alone."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(file.get_tensor(f"weight/{name}"))

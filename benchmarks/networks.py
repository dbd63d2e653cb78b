"""The two networks that are measured: the shipped sparse model, and a dense one the peers can run.

Peers know GPT-2, but neither activation sparsity nor attention sinks. So they and circuitd all get
a GPT-2 of the shipped model's size with the same random weights, and are first checked to compute
the same logits.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from circuitd.engine.config import GPTConfig
from circuitd.engine.sparse.choice import apply, choose
from circuitd.engine.weights import Weights, expected_shapes
from circuitd.store.checkpoint import load_checkpoint
from circuitd.store.model_files import CONFIG_FILE
from circuitd.store.roots import artefact_roots, find_model

SHIPPED = "csd-py-sparse"
DENSE = "dense-same-size"
WEIGHTS_FILE = "final_model.safetensors"


@dataclass(frozen=True, eq=False)
class Network:
    """A model as the daemon knows it by name, and its weights in this process."""

    name: str
    directory: Path
    weights: Weights

    @cached_property
    def chosen(self) -> Weights:
        """The weights on the execution that a worker chooses for them."""
        return apply(self.weights, choose(self.weights))

    @property
    def config(self) -> GPTConfig:
        """Its configuration."""
        return self.weights.config


def shipped_network() -> Network:
    """The model that comes with circuitd."""
    directory = find_model(SHIPPED, artefact_roots())
    return Network(SHIPPED, directory, _weights(directory))


def dense_network(size_of: GPTConfig, root: Path) -> Network:
    """A dense GPT-2 with the dimensions of another network, written to an artefact tree."""
    directory = write_dense(size_of, root)
    return Network(DENSE, directory, _weights(directory))


def write_dense(size_of: GPTConfig, root: Path) -> Path:
    """Write such a network; its directory."""
    config = GPTConfig(
        block_size=size_of.block_size,
        vocab_size=size_of.vocab_size,
        n_layer=size_of.n_layer,
        n_head=size_of.n_head,
        d_head=size_of.d_head,
        d_model=size_of.d_model,
        d_mlp=size_of.d_mlp,
        tied_unembed=False,
    )
    directory = root / "models" / DENSE
    directory.mkdir(parents=True)
    (directory / CONFIG_FILE).write_text(json.dumps(config.to_json()))
    save_file(_random_state(config), directory / WEIGHTS_FILE)
    return directory


def prompt(config: GPTConfig, n_rows: int, n_positions: int, seed: int = 0) -> np.ndarray:
    """Random token ids [n_rows, n_positions]; what they say does not change what they cost."""
    tokens = np.random.default_rng(seed).integers(config.vocab_size, size=(n_rows, n_positions))
    return tokens.astype(np.int32)


def _weights(directory: Path) -> Weights:
    return load_checkpoint(directory, torch.float32, torch.device("cpu")).weights


def _random_state(config: GPTConfig) -> dict[str, torch.Tensor]:
    """GPT-2's initialisation: normal with deviation 0.02, norms 1, biases 0."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, shape in expected_shapes(config).items():
        if name.endswith(".bias"):
            state[name] = torch.zeros(shape)
        elif len(shape) == 1:
            state[name] = torch.ones(shape)
        else:
            state[name] = 0.02 * torch.randn(shape, generator=generator)
    return state

"""Compile the kernels ahead of time: `python -m circuitd.engine.sparse`.

Numba keeps what it compiled beside the sources (or in the user's cache directory where it may not
write there), so the first prune of an installation need not wait a quarter of a minute for it.
"""

from __future__ import annotations

import dataclasses
import sys
import time

import torch

from circuitd.engine.config import GPTConfig
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Scale
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.choice import Choice, apply
from circuitd.engine.sparse.lanes.execute import Blocks, SparseNetwork
from circuitd.engine.steps import finish
from circuitd.engine.weights import Weights, expected_shapes

#: Smallest network that goes through every kernel.
_CONFIG = GPTConfig(
    block_size=8, vocab_size=4, n_layer=1, n_head=1, d_head=2, d_model=2, d_mlp=4, rms_norm=True,
    ln_bias=False, tied_unembed=False, sink=True, afrac=0.5,
)  # fmt: skip


#: And one for the kernels that the first has no use for.
_OTHER = dataclasses.replace(_CONFIG, rms_norm=False, activation_type="relu", d_pos_emb=2)


def main() -> None:
    """Run one step of each kind on a tiny network."""
    began = time.monotonic()
    weights = _network(_CONFIG)
    network = SparseNetwork(weights, 1)
    row = torch.zeros(1, 2, dtype=torch.int64)
    prompts = (row, torch.tensor([2]), torch.tensor([[0, 1]]))
    blocks = Blocks.pack(*prompts)
    n_nodes = 2 * _CONFIG.d_in + 3 * _CONFIG.d_attn + 2 * _CONFIG.d_model + _CONFIG.d_mlp
    gates = torch.ones(n_nodes + _CONFIG.d_model).numpy()
    for steps in (network.differences, network.gradient):
        finish(steps(blocks, gates, gates))
    circuit = finish(network.compiled(network.lay(*prompts), gates == 1, gates))
    finish(circuit.differences())
    plan = Plan(interventions=(Scale("0.attn.k", 2.0), Scale("0.resid_mid", 2.0)))
    for other in (weights, _network(_OTHER)):
        forward(apply(other, Choice(((True,) * 4,))), row, plan)
    sys.stdout.write(f"the sparse kernels are compiled ({time.monotonic() - began:.0f} s)\n")


def _network(config: GPTConfig) -> Weights:
    shapes = expected_shapes(config)
    return Weights.from_state(config, {name: torch.ones(shape) for name, shape in shapes.items()})


if __name__ == "__main__":
    main()

"""Compile the kernels ahead of time: `python -m circuitd.engine.sparse`.

Numba keeps what it compiled beside the sources (or in the user's cache directory where it may not
write there), so the first requests of an installation need not wait a minute for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch

from circuitd.engine.config import GPTConfig
from circuitd.engine.gpt import forward
from circuitd.engine.interventions import Scale
from circuitd.engine.plan import Plan
from circuitd.engine.sparse.choice import Choice, apply
from circuitd.engine.sparse.jit import forget_others
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


#: Where a tile stops for a plan that looks there.
_SITES: Final = (
    "attn.norm_scale", "attn.act_in", "attn.resid_delta", "mlp.norm_scale", "mlp.act_in",
    "mlp.post_act", "mlp.resid_delta",
)  # fmt: skip


def main() -> None:
    """Compile side by side what takes longest, each part in a process of its own; then whatever is
    still missing here. Of two processes that keep a function's code at once, one may lose
    its own to the other.
    """
    if len(sys.argv) > 1:
        _PARTS[sys.argv[1]]()
        return
    began = time.monotonic()
    parts = [subprocess.Popen([sys.executable, "-m", __spec__.parent, part]) for part in _PARTS]
    statuses = [part.wait() for part in parts]
    if any(statuses):
        sys.exit("compiling the sparse kernels failed: what went wrong is said above")
    for compile_part in (*_PARTS.values(), _tiles):
        compile_part()
    with contextlib.suppress(OSError):  # beside the sources one may perhaps not write
        forget_others(Path(__file__).parent)
    sys.stdout.write(f"the sparse kernels are compiled ({time.monotonic() - began:.0f} s)\n")


def _lanes() -> None:
    """One step of each kind on a tiny network."""
    network, prompts, gates = _case()
    blocks = Blocks.pack(*prompts)
    for steps in (network.differences, network.gradient):
        finish(steps(blocks, gates, gates))


def _circuits() -> None:
    """A compiled circuit."""
    network, prompts, gates = _case()
    circuit = finish(network.compiled(network.lay(*prompts), gates == 1, gates))
    finish(circuit.differences())


def _tiles() -> None:
    """Passes that go through all stretches, and through each step alone; of two tiles, since a part
    of one alone would lie in memory as a whole does.
    """
    rows = torch.zeros(3, _CONFIG.block_size, dtype=torch.int64)
    plan = Plan(interventions=(Scale("0.attn.k", 2.0), Scale("0.resid_mid", 2.0)))
    stops = Plan(interventions=tuple(Scale(f"0.{site}", 2.0) for site in _SITES))
    for config in (_CONFIG, _OTHER):
        weights = apply(_network(config), Choice(((True,) * 4,)))
        for some in (plan, stops):
            forward(weights, rows, some)


_PARTS: Final = {"lanes": _lanes, "circuits": _circuits}


def _case() -> tuple[SparseNetwork, tuple[torch.Tensor, torch.Tensor, torch.Tensor], Any]:
    """The network, prompts and gates."""
    prompts = (
        torch.zeros(1, 2, dtype=torch.int64), torch.tensor([2]), torch.tensor([[0, 1]])
    )  # fmt: skip
    n_nodes = 2 * _CONFIG.d_in + 3 * _CONFIG.d_attn + 2 * _CONFIG.d_model + _CONFIG.d_mlp
    gates = torch.ones(n_nodes + _CONFIG.d_model).numpy()
    return SparseNetwork(_network(_CONFIG), 1), prompts, gates


def _network(config: GPTConfig) -> Weights:
    shapes = expected_shapes(config)
    return Weights.from_state(config, {name: torch.ones(shape) for name, shape in shapes.items()})


if __name__ == "__main__":
    main()

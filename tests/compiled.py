"""Programs compiled by tracr, as networks of ours: weights, task, and the truth about them.

The files are made by tests/data/compiled/make.py (with tracr) and find_truth.py (without).
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from circuitd.circuits.nodes import node_space
from circuitd.engine.config import GPTConfig, parse_config
from circuitd.engine.weights import Weights
from circuitd.tasks.batch import TaskBatch, TokenPair, stack_pairs
from circuitd.tasks.words import SPLITS, Split

DATA = Path(__file__).parent / "data" / "compiled"
PROGRAMS = ("detect_pattern", "frac_prevs", "shift_by")
KINDS = ("mean", "resample", "zero")
#: The loss that a circuit must reach; see the README beside the files.
TARGET_LOSS = 0.02


@dataclass(frozen=True, eq=False)
class Compiled:
    """One program. `channels` name the stream's directions, `outputs` are those of the result.

    `inputs` int64 [n, T] are all inputs of full length, each with its first token; `streams`
    [s, T, d - 1] is what tracr's network has at its end for the inputs numbered `some`, and
    `expected` [n, T, n_outputs] its result for all.
    """

    name: str
    config: GPTConfig
    state: dict[str, Tensor]
    channels: tuple[str, ...]
    outputs: tuple[int, ...]
    tasks: dict[Split, TaskBatch]
    inputs: Tensor
    expected: Tensor
    some: Tensor
    streams: Tensor

    @functools.cached_property
    def weights(self) -> Weights:
        """The network, ready to run."""
        return Weights.from_state(self.config, self.state)

    def truth(self, kind: str) -> np.ndarray:
        """BOOL [n_nodes]: the nodes needed under this kind of ablation (truth.json)."""
        truth = json.loads((DATA / self.name / "truth.json").read_text())
        return node_space(self.config).mask(truth[kind]["nodes"].items())


@functools.cache
def compiled(name: str) -> Compiled:
    """The program's network and task."""
    directory = DATA / name
    config, unknown = parse_config(json.loads((directory / "beeg_config.json").read_text()))
    assert unknown == ()
    facts = json.loads((directory / "program.json").read_text())
    pairs_by_split = json.loads((directory / "task.json").read_text())
    first, second = facts["answers"]
    tasks: dict[Split, TaskBatch] = {}
    for split in SPLITS:
        pairs = [TokenPair((a, b), (first, second)) for a, b in pairs_by_split[split]]
        tasks[split] = stack_pairs(pairs, f"compiled_{name}", split)
    expected = load_file(directory / "expected.safetensors")
    return Compiled(
        name=name,
        config=config,
        state=load_file(directory / "final_model.safetensors"),
        channels=tuple(facts["channels"]),
        outputs=tuple(facts["outputs"]),
        tasks=tasks,
        inputs=expected["tokens"],
        expected=expected["outputs"],
        some=expected["some"],
        streams=expected["streams"],
    )

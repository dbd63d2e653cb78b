"""The table of all controls, in the order in which they are run: cheap ones first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from circuit_protocol.circuits import ControlName
from circuitd.circuits.verify.ablations import ablation_kinds, random_subsets
from circuitd.circuits.verify.faithfulness import faithfulness
from circuitd.circuits.verify.held_out import held_out
from circuitd.circuits.verify.necessity import necessity
from circuitd.circuits.verify.norms import frozen_norm
from circuitd.circuits.verify.nulls import random_weights, shuffled_labels
from circuitd.circuits.verify.random_circuits import random_circuits
from circuitd.circuits.verify.seeds import seeds
from circuitd.circuits.verify.trial import Controlling, Trial

CONTROLS: Final[Mapping[ControlName, Callable[[Trial], Controlling]]] = {
    "held_out": held_out,
    "necessity": necessity,
    "ablation_kinds": ablation_kinds,
    "random_subsets": random_subsets,
    "random_circuits": random_circuits,
    "frozen_norm": frozen_norm,
    "faithfulness": faithfulness,
    "shuffled_labels": shuffled_labels,
    "random_weights": random_weights,
    "seeds": seeds,
}

#: What each takes beside the others, roughly; for progress.
WEIGHTS: Final[Mapping[ControlName, float]] = {
    "held_out": 2,
    "necessity": 6,
    "ablation_kinds": 3,
    "random_subsets": 4,
    "random_circuits": 2,
    "frozen_norm": 1,
    "faithfulness": 4,
    "shuffled_labels": 15,
    "random_weights": 15,
    "seeds": 30,
}

"""Controls that say whether a circuit deserves belief, and the verdict that follows from them."""

from circuitd.circuits.verify.controls import CONTROLS, WEIGHTS
from circuitd.circuits.verify.runs import FreshRun, fresh_runs
from circuitd.circuits.verify.trial import Controlling, Trial, distinct_pairs
from circuitd.circuits.verify.verdict import Judgement, judge

__all__ = [
    "CONTROLS",
    "WEIGHTS",
    "Controlling",
    "FreshRun",
    "Judgement",
    "Trial",
    "distinct_pairs",
    "fresh_runs",
    "judge",
]

"""The verdict: a pure function of the controls.

not supported   an essential control failed: the circuit does not do the task, the model does
not need it, or chance, nonsense or an untrained network does as well
depends         no essential control failed, but a choice changes the answer, or an essential
control could not decide or was not run
supported       every essential control passed, and no choice changes the answer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from circuit_protocol.circuits import Control, ControlName, Verdict

#: Without these there is no support, and what the verdict hangs on while one cannot decide.
ESSENTIAL: Final[dict[ControlName, str]] = {
    "held_out": "the templates",
    "necessity": "which nodes are counted as the circuit's",
    "random_circuits": "how many random circuits are drawn",
    "shuffled_labels": "what a nonsense task needs",
    "random_weights": "what a random network needs",
}
#: Choices of whoever looks, which should not matter, in the words of "depends on …".
CHOICES: Final[dict[ControlName, str]] = {
    "ablation_kinds": "the kind of ablation",
    "random_subsets": "how much of the rest is ablated",
    "frozen_norm": "the scale of the norms",
    "seeds": "the seed",
}


@dataclass(frozen=True)
class Judgement:
    """A verdict, its reasons in sentences, and what it depends on when it does."""

    verdict: Verdict
    reasons: tuple[str, ...]
    depends_on: tuple[str, ...] = ()


def judge(controls: Sequence[Control]) -> Judgement:
    """The verdict on what was measured."""
    by_name = {control.name: control for control in controls}
    failed = [c for c in controls if c.name in ESSENTIAL and c.passed is False]
    if failed:
        return Judgement("not supported", tuple(control.sentence for control in failed))
    matters = [c for c in controls if c.name in CHOICES and c.passed is False]
    undecided = [c for c in controls if c.name in ESSENTIAL and c.passed is None]
    missing = [name for name in ESSENTIAL if name not in by_name]
    if matters or undecided or missing:
        depends_on = [CHOICES[control.name] for control in matters]
        depends_on += [ESSENTIAL[control.name] for control in undecided]
        reasons = [control.sentence for control in (*matters, *undecided)]
        if missing:
            names = [name.replace("_", " ") for name in missing]
            depends_on.append("controls that were not run")
            reasons.append(f"Not run, though no circuit is supported without: {', '.join(names)}.")
        return Judgement("depends", tuple(reasons), tuple(depends_on))
    reasons = [control.sentence for control in controls if control.passed]
    untested = [name.replace("_", " ") for name in CHOICES if name not in by_name]
    if untested:
        reasons.append(f"Not tested: {', '.join(untested)}.")
    return Judgement("supported", tuple(reasons))

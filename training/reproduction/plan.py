"""Which measurements there are: small units, each done once and kept in a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from circuit_protocol.circuits import Method
from training.reproduction import measure
from training.reproduction.grounds import Subject
from training.reproduction.records import Given, Record, Whole

SPARSE, DENSE = "csd-py-sparse", "csd-py-dense"
OTHER_METHODS: tuple[Method, ...] = tuple(m for m in get_args(Method) if m != "learned")
BY_GRADIENT: tuple[Method, ...] = ("attribution", "integrated_gradients")
#: Ablates every node in turn.
SLOW_METHOD: Method = "activation_patching"
Kind = Literal["whole", "learned", "ranked", "null"]


@dataclass(frozen=True)
class Unit:
    """One measurement: `how` is its k_coef, its method, or what it is given."""

    kind: Kind
    model: str
    task: str
    how: str = ""

    @property
    def file_name(self) -> str:
        """Where its records are kept."""
        return "-".join(filter(None, (self.model, self.task, self.kind, self.how))) + ".json"

    def measure(self, subject: Subject) -> list[Record]:
        """Carry it out on its model. Raises TaskError."""
        match self.kind:
            case "whole":
                return [measure.whole(subject, self.task)]
            case "learned":
                return measure.learned(subject, self.task, float(self.how))
            case "ranked":
                return measure.ranked(subject, self.task, _METHODS[self.how])
            case "null":
                given, is_fitted = _NULLS[self.how]
                return measure.null(subject, self.task, given, is_fitted)


_METHODS: dict[str, Method] = {method: method for method in OTHER_METHODS}
_NULLS: dict[str, tuple[Given, bool]] = {
    f"{'fitted ' if is_fitted else ''}{given}".replace(" ", "_"): (given, is_fitted)
    for is_fitted in (True, False)
    for given in get_args(Given)
}


def done(wholes: Iterable[Whole]) -> list[str]:
    """The tasks that every model does well, in order."""
    poor = {w.task for w in wholes if max(w.loss, w.held_out_loss) > measure.WELL_DONE_LOSS}
    return sorted({w.task for w in wholes} - poor)


def units(tasks: Sequence[str]) -> Iterator[Unit]:
    """Every measurement on `tasks`, what the page needs most first: task by task what is compared
    with each other, so that a run that is ended early has fewer tasks but whole comparisons.

    The dense twin serves the comparison of twins only.
    """

    def nulls(*, is_fitted: bool) -> Iterator[Unit]:
        hows = [how for how, null in _NULLS.items() if null[1] == is_fitted]
        return (Unit("null", SPARSE, task, how) for task in tasks for how in hows)

    def learned(task: str, k_coef: float) -> Iterator[Unit]:
        return (Unit("learned", model, task, f"{k_coef:g}") for model in (DENSE, SPARSE))

    default = measure.SETTINGS.k_coef
    for task in tasks:
        yield from learned(task, default)
        yield from (Unit("ranked", SPARSE, task, method) for method in BY_GRADIENT)
    yield from nulls(is_fitted=True)
    others = [method for method in OTHER_METHODS if method not in (*BY_GRADIENT, SLOW_METHOD)]
    yield from (Unit("ranked", SPARSE, task, method) for task in tasks for method in others)
    for task in tasks:
        for k_coef in measure.K_COEFS:
            if k_coef != default:
                yield from learned(task, k_coef)
    yield from nulls(is_fitted=False)
    yield from (Unit("ranked", SPARSE, task, SLOW_METHOD) for task in tasks)

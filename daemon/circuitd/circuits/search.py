"""A search over pruning's hyper-parameters: which settings reach the target with the fewest nodes.

Centred on given settings, as the paper centres its 256 runs on one table (FACTS 3). Trials are
asked for and told one by one, so that a search that was stopped goes on from its history to the
same end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from circuit_protocol.circuits import PruneSettings
from circuitd.circuits.errors import SearchFailed

if TYPE_CHECKING:
    import optuna

#: By what factor a setting may differ from its centre, either way.
_FACTORS: Final = {
    "k_coef": 30.0,
    "init_noise_scale": 10.0,
    "weight_decay": 30.0,
    "lr": 5.0,
    "heaviside_temp": 4.0,
}
#: Settings whose range does not depend on the centre.
_RANGES: Final = {"init_noise_bias": (0.0, 0.5), "beta2": (0.9, 0.999), "lr_warm_up": (0.0, 0.2)}
#: A centre of zero has no factors around it.
_SMALLEST: Final = 1e-6


@dataclass(frozen=True)
class Trial:
    """One try: its settings, and the nodes it needed; None with the `error` if it failed."""

    settings: PruneSettings
    k: int | None
    error: str = ""


class Search:
    """Tree-structured Parzen estimator over the settings, seeded; `history` are earlier trials."""

    def __init__(self, centre: PruneSettings, seed: int, history: Iterable[Trial] = ()) -> None:
        import optuna  # half a second, for those who search

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._centre = centre
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed % 2**32), direction="minimize"
        )
        # The first trial is the centre itself: a search never ends worse than no search.
        self._study.enqueue_trial(
            {name: _clipped(name, getattr(centre, name), centre) for name in (*_FACTORS, *_RANGES)}
        )
        self._asked: optuna.trial.Trial | None = None
        self.trials: list[Trial] = []
        for trial in history:
            self.ask()  # the sampler draws the same again
            self.tell(trial)

    def ask(self) -> PruneSettings:
        """The settings to try next."""
        trial = self._asked = self._study.ask()
        values: dict[str, float] = {}
        for name in _FACTORS:
            low, high = _bounds(name, self._centre)
            values[name] = trial.suggest_float(name, low, high, log=True)
        for name in _RANGES:
            low, high = _bounds(name, self._centre)
            values[name] = trial.suggest_float(name, low, high)
        return replace(self._centre, **values)

    def tell(self, trial: Trial) -> None:
        """What came of the settings last asked for."""
        from optuna.trial import TrialState

        assert self._asked is not None  # asked for before
        if trial.k is None:
            self._study.tell(self._asked, state=TrialState.FAIL)
        else:
            self._study.tell(self._asked, float(trial.k))
        self.trials.append(trial)

    @property
    def best(self) -> PruneSettings:
        """The settings that needed the fewest nodes. Raises `SearchFailed` if none succeeded."""
        done = [trial for trial in self.trials if trial.k is not None]
        if not done:
            raise SearchFailed(len(self.trials), self.trials[-1].error if self.trials else "none")
        return min(done, key=lambda trial: trial.k or 0).settings


def _bounds(name: str, centre: PruneSettings) -> tuple[float, float]:
    if name in _RANGES:
        return _RANGES[name]
    middle = max(getattr(centre, name), _SMALLEST)
    return middle / _FACTORS[name], middle * _FACTORS[name]


def _clipped(name: str, value: float, centre: PruneSettings) -> float:
    low, high = _bounds(name, centre)
    return min(max(value, low), high)

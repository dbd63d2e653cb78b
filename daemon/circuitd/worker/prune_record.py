"""What a prune request has done so far, kept beside its job so that it can go on after a crash.

`prune.json` holds what was found, what failed and the trials of a search; `pruner.safetensors` the
state of the learning run that is under way. Each is written whole or not at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import torch
from safetensors.torch import load_file, save_file

from circuit_protocol.circuit_replies import PruneFailure, PruneTrial
from circuit_protocol.circuits import Circuit, CircuitSummary, PruneSettings
from circuitd.circuits.prune import Pruner
from circuitd.circuits.search import Trial

#: A learning run is written down at most this often: 20 bytes a node, in about a millisecond.
_CHECKPOINT_INTERVAL_S: Final = 0.5
_RECORD_FILE: Final = "prune.json"
_PRUNER_FILE: Final = "pruner.safetensors"


class Unit(NamedTuple):
    """One task with one seed."""

    task: str
    seed: int


class FoundCircuit(msgspec.Struct, frozen=True):
    """A circuit and where it is listed."""

    summary: CircuitSummary
    circuit: Circuit

    @property
    def answers(self) -> tuple[object, ...]:
        """Which of a request's questions it answers."""
        found = self.circuit.found
        return self.circuit.task, found.seed, found.target_loss, found.target_k


class _Saved(msgspec.Struct):
    circuits: list[FoundCircuit] = []
    failures: list[PruneFailure] = []
    trials: list[PruneTrial] = []
    done: list[Unit] = []


@dataclass(eq=False)
class PruneRecord:
    """The record of one request; in memory alone where it is no job (`directory` None)."""

    directory: Path | None
    _next_checkpoint_s: float = field(default=0.0)

    def __post_init__(self) -> None:
        path = None if self.directory is None else self.directory / _RECORD_FILE
        saved = _Saved()
        if path is not None and path.is_file():
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        self._saved = saved
        self._next_checkpoint_s = time.monotonic() + _CHECKPOINT_INTERVAL_S

    @property
    def is_new(self) -> bool:
        """Whether nothing has been found, tried or missed yet."""
        return not (self.circuits or self.failures or self.trials or self._saved.done)

    @property
    def circuits(self) -> list[FoundCircuit]:
        """What was found."""
        return self._saved.circuits

    @property
    def failures(self) -> list[PruneFailure]:
        """What was not."""
        return self._saved.failures

    @property
    def trials(self) -> list[PruneTrial]:
        """The trials of all searches."""
        return self._saved.trials

    def is_done(self, unit: Unit) -> bool:
        """Whether the unit has come to its end, good or bad."""
        return unit in self._saved.done

    def has_answered(self, unit: Unit, target_loss: float | None, target_k: int | None) -> bool:
        """Whether this target was cut at before, with a circuit or a failure to show for it."""
        asked = (unit.task, unit.seed, target_loss, target_k)
        failed = ((f.task, f.seed, f.target_loss, f.target_k) for f in self.failures)
        return asked in failed or any(found.answers == asked for found in self.circuits)

    def add(self, summary: CircuitSummary, circuit: Circuit) -> None:
        """A circuit was found. One found again after a crash takes the place of the first; one
        that several targets share stays once for each.
        """
        new = FoundCircuit(summary, circuit)
        kept = [found for found in self.circuits if found.answers != new.answers]
        self._saved.circuits = [*kept, new]
        self._write()

    def add_trial(self, unit: Unit, trial: Trial, loss: float | None) -> None:
        """A search has tried something."""
        self.trials.append(
            PruneTrial(
                task=unit.task,
                seed=unit.seed,
                settings_json=msgspec.json.encode(trial.settings).decode(),
                k=trial.k,
                loss=loss,
                error=trial.error,
            )
        )
        self._write()

    @staticmethod
    def as_trial(trial: PruneTrial) -> Trial:
        """A recorded trial as a search wants it back."""
        settings = msgspec.json.decode(trial.settings_json, type=PruneSettings)
        return Trial(settings, trial.k, trial.error)

    def finish(self, unit: Unit) -> None:
        """The unit is done."""
        self._saved.done.append(unit)
        self._write()
        if self._pruner_path is not None:
            self._pruner_path.unlink(missing_ok=True)

    # ---- the learning run under way

    def resume(self, unit: Unit, pruner: Pruner) -> float:
        """Set `pruner` to where this unit's run was, if one with the same settings was written.

        Returns the seconds that the unit had taken by then.
        """
        path = self._pruner_path
        if path is None or not path.is_file():
            return 0.0
        state = load_file(path)
        seconds = float(state.pop("seconds"))
        if bytes(state.pop("of").tolist()) != _signature(unit, pruner):
            return 0.0
        pruner.resume(state)
        return seconds

    def checkpoint(self, unit: Unit, pruner: Pruner, seconds: float) -> None:
        """Write the run down if it is over, or if the last time is long enough ago.

        It stays until the unit is done, so that cutting can be resumed without learning again.
        """
        path, now = self._pruner_path, time.monotonic()
        if path is None or (now < self._next_checkpoint_s and not pruner.is_done):
            return
        self._next_checkpoint_s = now + _CHECKPOINT_INTERVAL_S
        unfinished = path.with_suffix(".part")
        signature = torch.tensor(list(_signature(unit, pruner)), dtype=torch.uint8)
        of = {"of": signature, "seconds": torch.tensor(seconds)}
        save_file({**pruner.state(), **of}, unfinished)
        unfinished.replace(path)

    @property
    def _pruner_path(self) -> Path | None:
        return None if self.directory is None else self.directory / _PRUNER_FILE

    def _write(self) -> None:
        if self.directory is None:
            return
        unfinished = self.directory / f"{_RECORD_FILE}.part"
        unfinished.write_bytes(msgspec.json.encode(self._saved))
        unfinished.replace(self.directory / _RECORD_FILE)


def _signature(unit: Unit, pruner: Pruner) -> bytes:
    """Says whose state it is: a resumed run must be of the same task, seed and settings."""
    return msgspec.json.encode((unit.task, unit.seed, pruner.settings))

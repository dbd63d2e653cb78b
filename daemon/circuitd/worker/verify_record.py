"""The controls that a verification has done, kept beside its job so that it can go on after a
crash.

`verify.json` is written whole or not at all after each control. A control is a function of circuit,
settings and seed, so a resumed verification ends in the same card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from circuit_protocol.circuits import Control, ControlName, VerifySettings

_FILE: Final = "verify.json"


class _Saved(msgspec.Struct):
    #: What is verified: the circuit's id, and how.
    of: tuple[str, VerifySettings]
    controls: list[Control] = []
    seconds: float = 0.0


class VerifyRecord:
    """The record of one request; in memory alone where it is no job (`directory` None)."""

    def __init__(self, directory: Path | None, of: tuple[str, VerifySettings]) -> None:
        self._path = None if directory is None else directory / _FILE
        self._saved = _Saved(of)
        if self._path is not None and self._path.is_file():
            saved = msgspec.json.decode(self._path.read_bytes(), type=_Saved)
            if saved.of == of:  # the name may have come to mean another circuit meanwhile
                self._saved = saved

    @property
    def controls(self) -> tuple[Control, ...]:
        """What is done, in order."""
        return tuple(self._saved.controls)

    @property
    def seconds(self) -> float:
        """Time that the controls took, over all runs of the job."""
        return self._saved.seconds

    def control(self, name: ControlName) -> Control | None:
        """The control of that name, if it is done."""
        return next((control for control in self.controls if control.name == name), None)

    def add(self, control: Control, seconds: float) -> None:
        """A control is done."""
        self._saved.controls.append(control)
        self._saved.seconds += seconds
        if self._path is not None:
            unfinished = self._path.with_suffix(".part")
            unfinished.write_bytes(msgspec.json.encode(self._saved))
            unfinished.replace(self._path)

"""What the engine refuses, as one small tree: each error says what was asked, found, and may help.

EngineError (a ValueError)
├── ConfigError         a model configuration that no network can have
├── WeightsError        missing, unexpected, mis-shaped or non-finite tensors
├── UnknownSite         a site selector that matches nothing, or is no selector at all
├── TokenError          token ids, targets or lengths that this model cannot take
├── PlanError           a plan whose parts contradict each other
├── InterventionError   an intervention whose site, selection or values do not fit
├── DeviceError         a device or dtype that this machine does not have
└── Cancelled           the caller asked to stop; nothing is wrong
"""

from __future__ import annotations


class EngineError(ValueError):
    """Base of all engine errors.

    `asked` is the request in the caller's words, `found` what stands against it, `hint` what to do
    (may be empty). `str(error)` joins them into one sentence each.
    """

    def __init__(self, asked: str, found: str, hint: str = "") -> None:
        self.asked = asked
        self.found = found
        self.hint = hint
        super().__init__(f"{asked}: {found}" + (f" ({hint})" if hint else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # ValueError would be rebuilt from its one joined argument and lose the fields.
        return type(self), (self.asked, self.found, self.hint)


class ConfigError(EngineError):
    """A model configuration that no network can have; names the fields."""


class WeightsError(EngineError):
    """Missing, unexpected, mis-shaped or non-finite tensors; names all of them."""


class UnknownSite(EngineError):
    """A site selector that matches nothing (the hint has the nearest names) or cannot be read."""


class TokenError(EngineError):
    """Token ids, targets or lengths outside what this model can take."""


class PlanError(EngineError):
    """A plan whose parts contradict each other."""


class InterventionError(EngineError):
    """An intervention whose site, selection or values do not fit; says what is allowed."""


class DeviceError(EngineError):
    """A device or dtype that this machine does not have."""


class Cancelled(EngineError):
    """The caller asked to stop between two layers or steps."""

    def __init__(
        self, asked: str = "forward", found: str = "cancelled by the caller", hint: str = ""
    ) -> None:
        super().__init__(asked, found, hint)

"""Who waits for a model to be loaded, or to be freed: told once, of success or of the reason."""

from collections.abc import Callable

from circuit_protocol.errors import CircuitError
from circuitd.work import ModelKey

#: Called with None when it has happened, or with why it will not.
Waiter = Callable[[CircuitError | None], None]


class ModelWaiters:
    """Waiters by model, of one kind of event."""

    def __init__(self) -> None:
        #: No entry is empty.
        self._waiting: dict[ModelKey, list[Waiter]] = {}

    def add(self, key: ModelKey, waiter: Waiter) -> None:
        """Wait for a model."""
        self._waiting.setdefault(key, []).append(waiter)

    def tell(self, key: ModelKey, error: CircuitError | None = None) -> int:
        """Tell all who wait for a model, and forget them; how many they were."""
        told = self._waiting.pop(key, [])
        for waiter in told:
            waiter(error)
        return len(told)

    def models(self) -> tuple[ModelKey, ...]:
        """The models that are waited for."""
        return tuple(self._waiting)

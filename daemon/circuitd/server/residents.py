"""What residency speaks of: devices, models asked for and in memory, what a worker has to do."""

from dataclasses import dataclass
from typing import Literal

from circuit_protocol.errors import CircuitError
from circuitd.work import ModelKey


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Tell `worker` to load `model`."""

    worker: int
    model: ModelKey


@dataclass(frozen=True, slots=True)
class StartUnload:
    """Tell `worker` to free `model`."""

    worker: int
    model: ModelKey


@dataclass(frozen=True, slots=True)
class Refused:
    """`model` will not become resident: everything that waits for it fails with `error`."""

    model: ModelKey
    error: CircuitError


Instruction = StartLoad | StartUnload | Refused


@dataclass(slots=True)
class Wish:
    """A model somebody asked for that is not in memory yet. `nbytes` is an estimate."""

    key: ModelKey
    name: str
    nbytes: int
    device: str | None
    keep_alive_s: float
    pinned: bool = False
    deaths: int = 0


@dataclass(slots=True)
class Model:
    """A model that takes up memory on a worker. `nbytes` is measured once it is resident."""

    key: ModelKey
    name: str
    worker: int
    state: Literal["loading", "resident", "unloading"]
    nbytes: int
    keep_alive_s: float
    last_used_at: float
    pinned: bool = False
    deaths: int = 0
    model_hash: str = ""
    block_size: int = 0
    vocab_size: int = 0
    notes: tuple[str, ...] = ()
    execution: str = ""
    in_use: int = 0
    #: Runs since it was loaded; until the first one it is not evicted for another model.
    uses: int = 0
    #: When it goes if it stays idle; None: never.
    expires_at: float | None = None
    #: Goes as soon as it is idle, whatever keep_alive says.
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's device and how many bytes of it may be used."""

    worker: int
    device: str
    budget_nbytes: int

"""The files of one circuit: written whole or not at all, checked whole before they are believed.

`circuit.json` is the circuit itself; `details.json` (importances, the history of its finding) and
`card.json` (the verdict) come later or never. A damaged circuit is an error that says why; damaged
details or a damaged card are as good as none, since both can be made again.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from circuit_protocol.circuits import Card, Circuit, CircuitDetails
from circuit_protocol.errors import CircuitError, Forbidden, InvalidRequest, StorageFull, TooLarge

log = logging.getLogger(__name__)

CIRCUIT_FILE: Final = "circuit.json"
DETAILS_FILE: Final = "details.json"
CARD_FILE: Final = "card.json"
#: A circuit of every node at paper scale takes 1 MB; half a million edges take 30.
_MAX_NBYTES: Final = 64 << 20
_TEMPORARY_PREFIX: Final = ".writing-"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Damaged(Exception):
    """A circuit's file that is not what was once written; says why."""


class _OnlyVerdict(msgspec.Struct):
    """As much of a card as a list shows."""

    verdict: str


_verdict_decoder: Final = msgspec.json.Decoder(_OnlyVerdict)


@dataclass(frozen=True)
class FilesState:
    """What changes when a circuit's files change: size, time and inode of circuit and card."""

    circuit: tuple[int, int, int]
    card: tuple[int, int, int] | None


def files_state(directory: Path) -> FilesState | None:
    """The state of a circuit's files now; None where there is no circuit."""
    circuit = _state(directory / CIRCUIT_FILE)
    return None if circuit is None else FilesState(circuit, _state(directory / CARD_FILE))


def read_circuit(directory: Path) -> Circuit:
    """The circuit in `directory`. Raises Damaged."""
    try:
        circuit = _read(directory / CIRCUIT_FILE, Circuit)
    except FileNotFoundError:
        raise Damaged(f"there is no {CIRCUIT_FILE}") from None
    if problem := _problem(circuit):
        raise Damaged(f"{CIRCUIT_FILE}: {problem}")
    return circuit


def read_details(directory: Path) -> CircuitDetails | None:
    """Its details, if there are any that can be read."""
    return _read_if_sound(directory / DETAILS_FILE, CircuitDetails)


def read_card(directory: Path) -> Card | None:
    """Its card, if there is one that can be read."""
    return _read_if_sound(directory / CARD_FILE, Card)


def read_verdict(directory: Path) -> str | None:
    """The card's verdict alone; None without a readable card."""
    try:
        return _verdict_decoder.decode(_bytes_of(directory / CARD_FILE)).verdict
    except (Damaged, FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write_file(directory: Path, value: Circuit | CircuitDetails | Card) -> None:
    """Write one of the three files into `directory`, which exists.

    Raises InvalidRequest for a value that could not be read again, TooLarge, StorageFull and
    Forbidden.
    """
    name = {Circuit: CIRCUIT_FILE, CircuitDetails: DETAILS_FILE, Card: CARD_FILE}[type(value)]
    data = msgspec.json.encode(value)
    if len(data) > _MAX_NBYTES:
        raise TooLarge(
            f"{name} would be too large", asked=f"{len(data)} bytes", hint=f"Limit: {_MAX_NBYTES}"
        )
    try:
        again = msgspec.json.decode(data, type=type(value))
    except msgspec.ValidationError as error:  # a NaN: JSON has none
        raise InvalidRequest(f"{name} cannot be written", found=str(error)) from error
    if isinstance(again, Circuit) and (problem := _problem(again)):
        raise InvalidRequest("this is no proper circuit", found=problem)
    write_bytes(directory / name, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step. Raises StorageFull or Forbidden, leaving nothing."""
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # it may have taken minutes to find
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise refused(error, path) from error


def refused(error: OSError, path: Path) -> CircuitError:
    """What a client is told about a file that cannot be written or removed."""
    if error.errno in _NO_ROOM:
        return StorageFull("there is no room for the circuit's files", asked=str(path))
    return Forbidden("a circuit's file may not be written", asked=str(path), found=error.strerror)


def _read_if_sound(path: Path, kind: type[_Struct]) -> _Struct | None:
    try:
        return _read(path, kind)
    except FileNotFoundError:
        return None
    except Damaged as error:
        log.warning("%s is damaged and not used: %s", path, error)
        return None


def _read(path: Path, kind: type[_Struct]) -> _Struct:
    data = _bytes_of(path)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"{path.name}: {error}"[:300]) from error


def _bytes_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_NBYTES:
            raise Damaged(f"{path.name} is larger than {_MAX_NBYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{path.name}: {error.strerror}") from error


def _problem(circuit: Circuit) -> str | None:
    """Why these nodes and edges are no circuit's of any model."""
    sites = [part.site for part in circuit.nodes]
    if len(set(sites)) != len(sites):
        return "a site is named twice"
    for part in circuit.nodes:
        channels = part.channels
        if not channels:
            return f"{part.site} names no channels"
        if channels[0] < 0 or any(b <= a for a, b in pairwise(channels)):
            return f"the channels of {part.site} do not ascend from 0"
    if len(set(circuit.cut_edges)) != len(circuit.cut_edges):
        return "an edge is cut twice"
    return None


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino

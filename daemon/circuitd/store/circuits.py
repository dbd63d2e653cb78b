"""The catalogue of circuits: `viz/<model>/<task>/<sweep>/<label>/` in each artefact root.

One root is written to, the user's; the others (what is shipped) are only read. A place that the
user's root has too hides the shipped one. A label is the circuit's number of nodes, and another
circuit of that size gets six digits of its id as well; the published `k_optim` is read like any
label. What is parsed is remembered as long as the files stay as they are, so that a list of
thousands costs little more than looking at their times.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from circuit_protocol.circuits import (
    N_ID_DIGITS,
    Card,
    Circuit,
    CircuitDetails,
    CircuitSummary,
    Measured,
    circuit_id,
)
from circuit_protocol.errors import Busy, CheckpointError, Forbidden, InvalidRequest, NotFound
from circuitd.store.circuit_files import (
    CARD_FILE,
    CIRCUIT_FILE,
    DETAILS_FILE,
    Damaged,
    FilesState,
    files_state,
    read_card,
    read_circuit,
    read_details,
    read_verdict,
    refused,
    write_bytes,
    write_file,
)
from circuitd.store.locks import LockHeld, OwnerLock

FOLDER: Final = "viz"
_COMPONENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,99}")
_ID_PREFIX: Final = re.compile(rf"[0-9a-f]{{1,{N_ID_DIGITS}}}")
_N_COLLISION_DIGITS: Final = 6
_LOCK_PATIENCE_S: Final = 10.0
_EMPTY: Final = Measured(k=0, n_edges=0, loss=0.0, accuracy=0.0, model_loss=0.0, model_accuracy=0.0)


@dataclass(frozen=True, order=True)
class Place:
    """Where a circuit lies in an artefact tree."""

    model: str
    task: str
    sweep: str
    label: str

    def __str__(self) -> str:
        return f"{self.model}/{self.task}/{self.sweep}/{self.label}"

    @property
    def path(self) -> Path:
        """Relative to the root."""
        return Path(FOLDER, self.model, self.task, self.sweep, self.label)


@dataclass(frozen=True)
class Entry:
    """One place with what a list shows of it."""

    place: Place
    directory: Path
    summary: CircuitSummary


@dataclass(frozen=True)
class StoredCircuit:
    """A circuit with everything that is stored beside it."""

    summary: CircuitSummary
    circuit: Circuit
    details: CircuitDetails | None
    card: Card | None


class CircuitStore:
    """The circuits of all roots. Safe to use from several threads and processes at once."""

    def __init__(self, writable: Path, read_only: Iterable[Path] = ()) -> None:
        """`writable` need not exist yet; roots come in the order in which they win."""
        self._writable = writable
        self._read_only = tuple(root for root in read_only if root != writable)
        self._known: dict[Path, tuple[FilesState, Entry]] = {}

    # ---- look

    def summaries(
        self,
        *,
        model: str | None = None,
        task: str | None = None,
        sweep: str | None = None,
        k: int | None = None,
        limit: int | None = None,
    ) -> tuple[CircuitSummary, ...]:
        """Summaries, newest first, of what matches every filter given; damaged ones are marked."""
        entries = [
            entry
            for entry in self._entries(model=model, task=task, sweep=sweep)
            if k is None or entry.summary.measured.k == k
        ]
        return tuple(entry.summary for entry in _newest_first(entries)[:limit])

    def find(self, ref: str, *, model: str | None = None) -> Entry:
        """The entry that `ref` means: an id, a unique beginning of one, or a place with or without
        the model. The same circuit in several places is found where it has a verdict, so that one
        found again does not hide its card; else at its newest.

        Raises NotFound with the nearest names, InvalidRequest for a beginning or a place that
        several circuits share.
        """
        is_place = "/" in ref
        parts = ref.split("/")
        if (is_place and len(parts) not in (3, 4)) or not (is_place or _ID_PREFIX.fullmatch(ref)):
            raise self._unknown(ref, model)
        if len(parts) == 4 and model is not None and component_of(model) != parts[0]:
            raise self._unknown(ref, model)
        entries = _newest_first(self._entries(model=model))
        if is_place:
            found = [e for e in entries if str(e.place).split("/")[-len(parts) :] == parts]
        else:
            found = [e for e in entries if e.summary.id.startswith(ref)]
        if not found:
            raise self._unknown(ref, model)
        if len({(e.summary.id, e.place if e.summary.broken else None) for e in found}) > 1:
            raise InvalidRequest(
                "several circuits are meant by this",
                asked=ref,
                nearest=[str(e.place) if is_place else e.summary.id for e in found[:8]],
                hint="Give more digits of the id" if not is_place else "Name the model too",
            )
        return next((e for e in found if e.summary.verdict is not None), found[0])

    def load(self, entry: Entry) -> StoredCircuit:
        """The circuit of an entry with what lies beside it.

        Raises CheckpointError if its files are damaged, NotFound if they have gone.
        """
        try:
            circuit = read_circuit(entry.directory)
            if problem := _misplaced(circuit, entry.place):
                raise Damaged(problem)
        except Damaged as error:
            if not entry.directory.is_dir():
                raise NotFound("this circuit has gone", asked=str(entry.place)) from error
            raise CheckpointError(
                "the circuit's files are damaged",
                asked=str(entry.directory),
                found=str(error),
                hint="Delete it, or put the file right",
            ) from error
        return StoredCircuit(
            entry.summary, circuit, read_details(entry.directory), read_card(entry.directory)
        )

    def get(self, ref: str, *, model: str | None = None) -> StoredCircuit:
        """`find` and `load` in one."""
        return self.load(self.find(ref, model=model))

    # ---- change

    def save(
        self,
        circuit: Circuit,
        sweep: str,
        *,
        label: str | None = None,
        details: CircuitDetails | None = None,
        card: Card | None = None,
    ) -> CircuitSummary:
        """Store a circuit under `sweep`; the same circuit found again keeps its place there.

        `label` None: its number of nodes. Raises InvalidRequest for names that cannot be folders,
        StorageFull, Forbidden.
        """
        model = component_of(circuit.model)
        task, sweep = check_folder("task", circuit.task), check_folder("sweep", sweep)
        k = sum(len(part.channels or ()) for part in circuit.nodes)
        label = check_folder("label", label or str(k))
        with self._locked():
            entry = self._place_for(circuit, Place(model, task, sweep, label))
            if not entry.summary.read_only or details is not None or card is not None:
                self._make_writable(entry)
                directory = self._writable / entry.place.path
                for value in (details, card, circuit):  # what is listed must be complete
                    if value is not None:
                        write_file(directory, value)
                return self._written(entry.place)
        return entry.summary

    def put_details(self, ref: str, details: CircuitDetails) -> CircuitSummary:
        """Store details beside a circuit; beside a copy of it, if it lies in a read-only root."""
        return self._put(ref, details)

    def put_card(self, ref: str, card: Card) -> CircuitSummary:
        """Store a card likewise."""
        return self._put(ref, card)

    def delete(self, ref: str, *, model: str | None = None) -> None:
        """Remove a circuit's files. A circuit that lies in several places needs its place named.

        Raises Forbidden for one in a read-only root.
        """
        with self._locked():
            entry = self.find(ref, model=model)
            if "/" not in ref:
                same = [e for e in self._entries() if e.summary.id == entry.summary.id]
                if len(same) > 1:
                    raise InvalidRequest(
                        "this circuit lies in several places",
                        asked=ref,
                        nearest=[str(e.place) for e in same[:8]],
                        hint="Name the place to delete",
                    )
            if entry.summary.read_only:
                raise Forbidden(
                    "shipped circuits cannot be deleted",
                    asked=str(entry.place),
                    found=str(entry.directory),
                )
            try:
                shutil.rmtree(entry.directory)
                for folder in list(entry.directory.parents)[:3]:  # sweep, task, model
                    if any(folder.iterdir()):
                        break
                    folder.rmdir()
            except OSError as error:
                raise refused(error, entry.directory) from error

    def _put(self, ref: str, value: CircuitDetails | Card) -> CircuitSummary:
        with self._locked():
            entry = self.find(ref)
            if entry.summary.broken is not None:
                self.load(entry)  # raises with the reason
            self._make_writable(entry)
            directory = self._writable / entry.place.path
            write_file(directory, value)
            return self._written(entry.place)

    # ---- within

    def _place_for(self, circuit: Circuit, wanted: Place) -> Entry:
        """Where a circuit is or will be: its place in the sweep, a free one, or one beside."""
        own_id = circuit_id(circuit)
        in_sweep = self._entries(model=wanted.model, task=wanted.task, sweep=wanted.sweep)
        taken = {entry.place.label: entry for entry in in_sweep}
        for entry in taken.values():
            if entry.summary.id == own_id:
                return entry
        label = wanted.label
        if label in taken:
            label = f"{label}-{own_id[:_N_COLLISION_DIGITS]}"
        place = Place(wanted.model, wanted.task, wanted.sweep, label)
        return Entry(place, self._writable / place.path, summary_of(circuit, place))

    def _make_writable(self, entry: Entry) -> None:
        """Make the entry's folder in the writable root, with what a read-only one holds."""
        directory = self._writable / entry.place.path
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if directory != entry.directory:
                for name in (DETAILS_FILE, CARD_FILE, CIRCUIT_FILE):
                    if (source := entry.directory / name).is_file():
                        write_bytes(directory / name, source.read_bytes())
        except OSError as error:
            raise refused(error, directory) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process changes the writable root at a time."""
        try:
            (self._writable / FOLDER).mkdir(parents=True, exist_ok=True)
            lock = OwnerLock(self._writable / FOLDER / ".lock", patience_s=_LOCK_PATIENCE_S)
        except OSError as error:
            raise refused(error, self._writable) from error
        except LockHeld as error:
            raise Busy("the circuits are being written to", found=str(error)) from error
        with lock:
            yield

    def _entries(
        self, *, model: str | None = None, task: str | None = None, sweep: str | None = None
    ) -> list[Entry]:
        """All entries, or those of some folders; of one place in several roots the first."""
        found: dict[Place, Entry] = {}
        folder = None if model is None else component_of(model)
        for root in (self._writable, *self._read_only):
            for place, directory in _places(root / FOLDER, (folder, task, sweep)):
                state = None if place in found else files_state(directory)
                if state is not None:
                    found[place] = self._entry(place, directory, state, root != self._writable)
        return list(found.values())

    def _entry(self, place: Place, directory: Path, state: FilesState, read_only: bool) -> Entry:
        known = self._known.get(directory)
        if known is not None and known[0] == state:
            return known[1]
        try:
            circuit = read_circuit(directory)
            problem = _misplaced(circuit, place)
        except Damaged as error:
            circuit, problem = None, str(error)
        if circuit is None or problem is not None:
            summary = _broken(place, problem or "", read_only)
        else:
            verdict = read_verdict(directory)
            summary = summary_of(circuit, place, verdict=verdict, read_only=read_only)
        entry = Entry(place, directory, summary)
        self._known[directory] = (state, entry)
        return entry

    def _written(self, place: Place) -> CircuitSummary:
        """The summary of what has just been written to the writable root."""
        directory = self._writable / place.path
        state = files_state(directory)
        assert state is not None  # the lock is held
        return self._entry(place, directory, state, False).summary

    def _unknown(self, ref: str, model: str | None) -> NotFound:
        entries = self._entries(model=model)
        if _ID_PREFIX.fullmatch(ref):
            names: Iterable[str] = [e.summary.id for e in entries if e.summary.id]
        elif ref.count("/") == 2:
            names = [str(e.place).partition("/")[2] for e in entries]
        else:
            names = [str(e.place) for e in entries]
        return NotFound.unknown("circuit", ref, list(dict.fromkeys(names)))


def place_of(summary: CircuitSummary) -> str:
    """The place of a listed circuit, as a reference to it and to no other."""
    return f"{component_of(summary.model)}/{summary.task}/{summary.sweep}/{summary.label}"


def component_of(model: str) -> str:
    """The folder of a model's circuits: the last part of its name, path or address."""
    last = model.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._+=-]", "-", last).lstrip(".-_+=")[:100] or "model"


def check_folder(what: str, name: str) -> str:
    """`name` if it can be a folder of the tree (`what` says of which kind), else InvalidRequest."""
    if _COMPONENT.fullmatch(name) is None:
        raise InvalidRequest(
            f"this {what} cannot be the name of a folder",
            asked=name[:100],
            hint="Use up to 100 letters, digits and . _ + = -, first a letter or digit",
        )
    return name


def _newest_first(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda e: (-e.summary.created_at_s, e.place))


def _places(top: Path, wanted: Sequence[str | None]) -> Iterator[tuple[Place, Path]]:
    """The folders four levels below `top` whose first names are the wanted ones."""

    def below(directory: Path, names: tuple[str, ...]) -> Iterator[tuple[Place, Path]]:
        if len(names) == 4:
            yield Place(*names), directory
            return
        name = wanted[len(names)] if len(names) < len(wanted) else None
        for found in _folders(directory) if name is None else (name,):
            # A name from outside could be `..`; one that was listed could not.
            if name is None or _COMPONENT.fullmatch(found):
                yield from below(directory / found, (*names, found))

    return below(top, ())


def _folders(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as found:
            return sorted(e.name for e in found if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return []


def _misplaced(circuit: Circuit, place: Place) -> str | None:
    if circuit.task != place.task:
        return f"{CIRCUIT_FILE} is of the task {circuit.task!r}, its folder of {place.task!r}"
    return None


def summary_of(
    circuit: Circuit, place: Place, *, verdict: str | None = None, read_only: bool = False
) -> CircuitSummary:
    """A circuit as a list shows it, at its place or at the one that it would have."""
    is_named_so = component_of(circuit.model) == place.model
    return CircuitSummary(
        id=circuit_id(circuit),
        model=circuit.model if is_named_so else place.model,
        task=circuit.task,
        sweep=place.sweep,
        label=place.label,
        ablation=circuit.ablation,
        origin=circuit.found.origin,
        measured=circuit.measured,
        seed=circuit.found.seed,
        target_loss=circuit.found.target_loss,
        target_k=circuit.found.target_k,
        created_at_s=circuit.found.created_at_s,
        verdict=verdict,
        read_only=read_only,
    )


def _broken(place: Place, problem: str, read_only: bool) -> CircuitSummary:
    return CircuitSummary(
        id="",
        model=place.model,
        task=place.task,
        sweep=place.sweep,
        label=place.label,
        ablation="mean",
        origin="imported",
        measured=_EMPTY,
        read_only=read_only,
        broken=problem,
    )
